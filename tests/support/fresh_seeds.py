"""Property tests with seeds that nobody has seen: for as long as SHELFMARK_PROPERTY_SECONDS says, told so that any can
be repeated. `make test` repeats the same examples every time; CI draws others."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable

import pytest

SECONDS, SEED = "SHELFMARK_PROPERTY_SECONDS", "SHELFMARK_SEED"


def try_fresh_seeds(run: Callable[[int], None], name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Calls run(seed) with one seed after the other until the time is up; skips where none was given.

    Args:
        run: Draws its examples by the seed.
        name: Of the test, as pytest takes it.
        capfd: Pytest's, to say the seed past it.
    """
    if not os.environ.get(SECONDS):
        pytest.skip(f"draws fresh examples where {SECONDS} says for how long")
    until_s = time.monotonic() + float(os.environ[SECONDS])
    first = seed = int(os.environ.get(SEED) or secrets.randbelow(1 << 32))
    _say(capfd, f"{name}: from {SEED}={first}")
    while seed == first or time.monotonic() < until_s:
        try:
            run(seed)
        except BaseException:
            _say(capfd, f"again: {SEED}={seed} {SECONDS}=1 python -m pytest {name}")
            raise
        seed += 1
    _say(capfd, f"{name}: {seed - first} seeds")


def _say(capfd: pytest.CaptureFixture[str], line: str) -> None:
    with capfd.disabled():
        print(f"\n{line}", flush=True)
