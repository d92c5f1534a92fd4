"""A server in a process of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any


@dataclasses.dataclass(frozen=True)
class ServeProcess:
    """A server in a process of its own.

    Attributes:
        port: On 127.0.0.1.
        process: The process.
        lines: What it logs, documents as they come.
    """

    port: int
    process: subprocess.Popen[str]
    lines: list[dict[str, Any]]


def serve_command(store: str, *flags: str) -> contextlib.AbstractContextManager[ServeProcess]:
    """Runs `shelfmark serve` until the block ends, then tells it to stop and waits for it."""
    return _process("pipelines.cli.main", "serve", "--store", store, "--port", "0", *flags)


def serve_apart(store: str) -> contextlib.AbstractContextManager[ServeProcess]:
    """What `running` serves, with the usual limits, in a process of its own."""
    return _process("tests.support.serving", store)


@contextlib.contextmanager
def _process(*arguments: str) -> Iterator[ServeProcess]:
    command = [sys.executable, "-m", *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines: list[dict[str, Any]] = []
        ports: queue.Queue[int] = queue.Queue()
        reader = threading.Thread(target=_read_lines, args=(process.stderr, lines, ports))
        reader.start()
        try:
            port = ports.get(timeout=120)
            assert port, lines
            yield ServeProcess(port, process, lines)
        finally:
            process.terminate()
            reader.join(60)


def _read_lines(stream: Any, lines: list[dict[str, Any]], ports: queue.Queue[int]) -> None:
    """Notes log lines, and the port once it is told; 0 where the process ends without."""
    for line in stream:
        document = json.loads(line) if line.startswith("{") else {"event": line.strip()}
        lines.append(document)
        if document["event"] == "listening":
            ports.put(int(document["url"].rsplit(":", 1)[1]))
    ports.put(0)
