"""Load from k6, a program of its own that the benchmark starts: https://k6.io."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.serve_requests import Requests, Window, read_requests

K6_VERSION = "1.8.1"
_SCRIPT = Path(__file__).parent / "serve" / "load.js"
_WARM_UP_S = 2.0
_STOPPED_BY_SIGNAL = 105  # k6's exit code


@dataclasses.dataclass(frozen=True, slots=True)
class Bodies:
    """What is sent, over and over.

    Attributes:
        paths: Files, each a whole body.
        content_type: Of all of them.
        queries: In each.
        encoding: Of what is in them, where there are several.
    """

    paths: tuple[Path, ...]
    content_type: str
    queries: int = 1
    encoding: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Load:
    """How it is sent: users who each wait for an answer before they send again, or so many per second whatever comes.

    Attributes:
        users: At once; with a rate, at most.
        seconds: How long.
        rate_per_s: Requests that start in a second; None for as many as the users manage.
    """

    users: int
    seconds: float
    rate_per_s: int | None = None

    def to_scenario(self) -> dict[str, Any]:
        """As k6 wants it."""
        common = {"duration": f"{round(self.seconds * 1000)}ms", "gracefulStop": "60s"}
        if self.rate_per_s is None:
            return {"executor": "constant-vus", "vus": self.users, **common}
        users = {"preAllocatedVUs": self.users, "maxVUs": self.users}
        return {"executor": "constant-arrival-rate", "rate": self.rate_per_s, "timeUnit": "1s", **users, **common}


@dataclasses.dataclass(slots=True)
class Answered:
    """What a running load has seen, once it has ended."""

    requests: Requests | None = None

    def get(self) -> Requests:
        """The requests.

        Raises:
            RuntimeError: It is still running.
        """
        if self.requests is None:
            raise RuntimeError("expected a load that has ended, found one that is still running")
        return self.requests


class Client:
    """k6, held to some of this machine's cores."""

    def __init__(self, cores: set[int]) -> None:
        """Finds k6.

        Args:
            cores: Where it may run.

        Raises:
            SystemExit: It is not installed.
        """
        self._program = find_k6()
        self._cores = cores

    def measure(self, url: str, bodies: Bodies, load: Load, warm_up_s: float = _WARM_UP_S) -> tuple[Requests, Window]:
        """Sends for `warm_up_s` and then for the load's seconds.

        Returns:
            All requests, and the time from the warm-up's end to the load's.

        Raises:
            RuntimeError: k6 failed.
        """
        with self.running(url, bodies, dataclasses.replace(load, seconds=warm_up_s + load.seconds)) as answered:
            pass
        requests = answered.get()
        if not len(requests):
            raise RuntimeError(f"{url}: expected answers from a load of {load}, found none")
        began_s = float(requests.began_s.min()) + warm_up_s
        window = Window(began_s, began_s + load.seconds)
        return requests, window

    @contextlib.contextmanager
    def running(self, url: str, bodies: Bodies, load: Load, stop: bool = False) -> Iterator[Answered]:
        """Sends while a block runs.

        Args:
            url: Where to.
            bodies: What.
            load: How.
            stop: Do not wait for the load's end after the block. Requests under way are then cut off, and look failed.

        Raises:
            RuntimeError: k6 failed.
        """
        answered = Answered()
        with tempfile.TemporaryDirectory(prefix="shelfmark-k6-") as scratch:
            samples = Path(scratch) / "samples.csv"
            with on_cores(self._cores):
                process = subprocess.Popen(
                    self._command(url, bodies, load, Path(scratch), samples),
                    env={**os.environ, "K6_CSV_TIME_FORMAT": "unix_micro"},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            try:
                yield answered
                if stop:
                    process.send_signal(signal.SIGINT)
                said, _ = process.communicate()
            finally:
                process.kill()
                process.wait()
            if process.returncode != (_STOPPED_BY_SIGNAL if stop else 0):
                raise RuntimeError(f"k6 ended with {process.returncode}:\n{said[-2000:]}")
            answered.requests = read_requests(samples)

    def _command(self, url: str, bodies: Bodies, load: Load, scratch: Path, samples: Path) -> list[str]:
        config, listing = scratch / "config.json", scratch / "bodies.json"
        listing.write_text(json.dumps([str(path.absolute()) for path in bodies.paths]), encoding="utf-8")
        scenarios = {"scenarios": {"load": load.to_scenario()}}
        # A cut of the tags: each is written with every sample, and that is time k6 does not have for requests.
        config.write_text(json.dumps({"discardResponseBodies": True, "systemTags": ["status"], **scenarios}))
        variables = {"BODIES": str(listing), "CONTENT_TYPE": bodies.content_type, "URL": url}
        flags = ["--quiet", "--no-usage-report", "--address", "", "--config", str(config), "--out", f"csv={samples}"]
        given = [part for name, value in variables.items() for part in ("--env", f"{name}={value}")]
        return [self._program, "run", *flags, *given, str(_SCRIPT)]


def find_k6() -> str:
    """The program SHELFMARK_K6 names, or k6 on PATH.

    Raises:
        SystemExit: There is none.
    """
    wanted = os.environ.get("SHELFMARK_K6", "k6")
    found = shutil.which(wanted)
    if found is None:
        raise SystemExit(
            f"expected the load generator k6 as {wanted}, found none; get it with "
            f"`go install go.k6.io/k6@v{K6_VERSION}`, then put it on PATH or name it in SHELFMARK_K6"
        )
    return found


@contextlib.contextmanager
def on_cores(cores: set[int]) -> Iterator[None]:
    """Processes that a block starts may only run on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
