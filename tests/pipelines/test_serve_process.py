"""`shelfmark serve` as a process: it opens, listens, reloads in all its workers, and ends when told to."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from index_builder.build.builder import build_index
from index_builder.build.request import BuildRequest
from store.location import Store
from tests.support.serve_process import ServeProcess, serve_command
from tests.support.serving import Client, make_served_store, query_vector

VECTORS_ONLY = ("--no_pictures", "--poll_interval", "3600", "--grace", "20")


def until(holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < end_s, "it never came to hold"
        time.sleep(0.005)


def check_ended(server: ServeProcess) -> None:
    """Ended as it was told to, saying nothing of errors."""
    assert server.process.returncode == 0, server.lines
    assert server.lines[-1]["event"] == "stopped"
    assert not [line for line in server.lines if line.get("level") == "error" or "Traceback" in line["event"]]


def ask_version(port: int) -> str:
    """From a connection of its own, so that any of the processes may answer."""
    with Client(port, timeout_s=60) as client:
        version: str = client.ask("GET", "/v1/index").json["version"]
        return version


def test_it_opens_then_listens_and_at_sigterm_finishes_what_it_has_begun(served_store):
    body = b'{"item_id": "sku-3", "k": 2}'
    with serve_command(served_store.uri, *VECTORS_ONLY) as server, Client(server.port) as client:
        opening, opened, listening = server.lines[:3]
        assert (opening["event"], opening["version"]) == ("opening", served_store.versions[-1])
        assert (opened["event"], opened["version"], opened["vectors"]) == ("opened", served_store.versions[-1], 24)
        assert listening["event"] == "listening"
        assert listening["url"] == f"http://127.0.0.1:{server.port}"
        assert client.search(b"a picture").status == 422
        with socket.create_connection(("127.0.0.1", server.port), timeout=120) as slow:
            kind = "Host: a\r\nContent-Type: application/json"
            head = f"POST /v1/search HTTP/1.1\r\n{kind}\r\nContent-Length: {len(body)}\r\n\r\n"
            slow.sendall(head.encode() + body[:5])
            until(lambda: client.metric("shelfmark_requests_in_flight") == 2)  # that one and the question
            server.process.send_signal(signal.SIGTERM)
            until(lambda: is_closed(server.port))
            assert server.process.poll() is None
            slow.sendall(body[5:])
            answer = slow.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.count(b'"image_id"') == 2
        server.process.wait(120)
    check_ended(server)


def is_closed(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=120):
            return False
    except ConnectionError:
        return True


def workers_of(process: int) -> list[int]:
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


@contextlib.contextmanager
def stopped(process: int) -> Iterator[None]:
    """A process that does nothing for a while."""
    os.kill(process, signal.SIGSTOP)
    try:
        until(lambda: Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "T")
        yield
    finally:
        os.kill(process, signal.SIGCONT)


@pytest.mark.slow
def test_two_workers_are_two_processes_that_reload_and_stop_together(tmp_path):
    store = make_served_store(tmp_path)

    def opened(version: str) -> int:
        return [line.get("version") for line in server.lines if line["event"] == "opened"].count(version)

    with serve_command(store.uri, *VECTORS_ONLY, "--workers", "2") as server:
        first = store.versions[-1]
        until(lambda: opened(first) == 2)
        one, other = workers = workers_of(server.process.pid)
        for idle in (one, other):
            with stopped(idle):
                assert ask_version(server.port) == first
        with Client(server.port) as client:
            assert client.search({"vector": query_vector(), "k": 3}).status == 200
            assert client.metric('shelfmark_requests_total{method="GET",route="/v1/index",status="200"}') == 2

        second = build_index(Store(store.uri), BuildRequest(k=3, target_recall=0.5)).version
        with Client(server.port) as client:
            assert client.ask("POST", "/v1/reload").json == {"version": second, "changed": True}
        until(lambda: opened(second) == 2)
        for idle in (one, other):
            with stopped(idle):
                assert ask_version(server.port) == second
        server.process.terminate()
        server.process.wait(120)
        assert not [worker for worker in workers if Path(f"/proc/{worker}").exists()]
    check_ended(server)


def test_sigint_ends_it_as_well(served_store):
    with serve_command(served_store.uri, *VECTORS_ONLY) as server:
        assert ask_version(server.port) == served_store.versions[-1]
        server.process.send_signal(signal.SIGINT)
        server.process.wait(120)
    check_ended(server)
