"""Many cases in one test: each is looked at, the failures are told together, and how many there were."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class RunCounts:
    """Counts cases."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._cases = 0
        self._failures: list[str] = []

    @contextlib.contextmanager
    def case(self, name: str) -> Iterator[None]:
        """Looks at one; what fails in the block is told at the end."""
        self._cases += 1
        try:
            yield
        except Exception as error:
            self._failures.append(f"{name}: {type(error).__name__}: {str(error)[:400]}")

    def finish(self, least: int = 1) -> None:
        """Prints a line for `pytest -rP`.

        Raises:
            AssertionError: A case failed, or there were fewer than `least`.
        """
        print(f"{self._what}: {self._cases - len(self._failures)}/{self._cases}")
        assert not self._failures, "\n".join([f"{len(self._failures)} of {self._cases} failed", *self._failures])
        assert self._cases >= least, f"expected at least {least} cases, found {self._cases}"
