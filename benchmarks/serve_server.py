"""`shelfmark serve` in a process of its own, as it is asked and watched while it is measured."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.index_measures import resident_mb
from benchmarks.serve_client import Bodies, on_cores
from benchmarks.serve_requests import OK

SERVE = (sys.executable, "-m", "pipelines.cli.main", "serve")
_START_S, _STOP_S, _ANSWER_S = 300.0, 60.0, 120.0
_LOOK_EVERY_S = 0.05


class Server:
    """A server that listens.

    Attributes:
        url: Without a path.
    """

    def __init__(self, process: subprocess.Popen[bytes], url: str) -> None:
        self.url = url
        self._process = process

    @property
    def search_url(self) -> str:
        """Where queries go."""
        return f"{self.url}/v1/search"

    def search(self, bodies: Bodies) -> dict[str, Any]:
        """The answer to the first of these bodies.

        Raises:
            RuntimeError: It is no answer, or not one to every query in the body.
        """
        answer = self._ask("/v1/search", bodies.paths[0].read_bytes(), bodies.content_type)
        found = [len(query["hits"]) for query in answer["queries"]]
        if len(found) != bodies.queries or not all(found):
            raise RuntimeError(f"{bodies.paths[0]}: expected answers to {bodies.queries} queries, found {found}")
        return answer

    def version(self) -> str:
        """The version it answers from."""
        return str(self._ask("/v1/index")["version"])

    def reload(self) -> str:
        """Tells it to look at CURRENT; returns when it has, with the version it answers from now."""
        return str(self._ask("/v1/reload", b"", "application/json")["version"])

    def memory_mb(self) -> dict[str, float]:
        """What its process holds, as `resident_mb`."""
        return resident_mb(self._process.pid)

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    def _ask(self, path: str, body: bytes | None = None, content_type: str = "") -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310 - the benchmark's own server
            self.url + path, data=body, headers={"Content-Type": content_type} if body is not None else {}
        )
        try:
            with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:  # noqa: S310
                document: dict[str, Any] = json.load(answer)
        except (urllib.error.URLError, http.client.HTTPException, ValueError) as error:
            said = error.read().decode(errors="replace") if isinstance(error, urllib.error.HTTPError) else str(error)
            raise RuntimeError(f"{path}: expected an answer, found {said}") from error
        return document


def cpu_s(pid: int) -> float:
    """Processor seconds that a process has used so far, in all its threads."""
    # The name, in brackets, may hold anything; utime and stime are the 12th and 13th fields after it.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def serving(store: Path, log: Path, cores: set[int], flags: Sequence[str] = ()) -> Iterator[Server]:
    """A server of a store while a block runs.

    Args:
        store: Has a published index.
        log: Where its lines of JSON go.
        cores: Where it may run.
        flags: Beside the store and the port.

    Raises:
        RuntimeError: It did not come up, or did not end well.
    """
    with open(log, "wb") as lines, on_cores(cores):
        process = subprocess.Popen([*SERVE, "--store", str(store), "--port", "0", *flags], stderr=lines)
    try:
        deadline_s = time.monotonic() + _START_S
        yield Server(process, _ready_url(process, log, deadline_s))
        process.terminate()
        code = process.wait(_STOP_S)
    finally:
        process.kill()
        process.wait()
    if code not in (0, -signal.SIGTERM):
        raise RuntimeError(f"serve: expected a graceful end after SIGTERM, found exit {code}; see {log}")


def _ready_url(process: subprocess.Popen[bytes], log: Path, deadline_s: float) -> str:
    """Where it listens, once it says that it is ready."""
    url = ""
    while process.poll() is None and time.monotonic() < deadline_s:
        url = url or _listening_url(log)
        with contextlib.suppress(urllib.error.URLError):
            if url and urllib.request.urlopen(f"{url}/readyz", timeout=_ANSWER_S).status == OK:  # noqa: S310
                return url
        time.sleep(_LOOK_EVERY_S)
    ended = process.poll()
    found = "none" if ended is None else f"exit {ended}"
    raise RuntimeError(f"serve: expected it to be ready within {_START_S:.0f} s, found {found}; see {log}")


def _listening_url(log: Path) -> str:
    """From the event `listening`; empty before it."""
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        if line.startswith("{") and line.endswith("\n"):
            event = json.loads(line)
            if event.get("event") == "listening":
                return str(event["url"]).rstrip("/")
    return ""
