"""Another version is published while requests run: none fails, each answer is of one version, damage is refused."""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import logging
import socket
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable

import pytest

from serving.options import ServeOptions
from store.location import Store
from tests.support.serve_process import serve_command
from tests.support.serving import (
    EDITION,
    ODD_ID,
    Answer,
    Client,
    Running,
    ServedStore,
    query_picture,
    query_vector,
    quoted,
    running,
)
from tests.support.versions import publish_now

SWAPS = 20
ENOUGH_S = 120.0


def eventually(holds: Callable[[], bool]) -> bool:
    until_s = time.monotonic() + ENOUGH_S
    while time.monotonic() < until_s:
        if holds():
            return True
        time.sleep(0.01)
    return False


def serves(server: Running, version: str) -> bool:
    return server.service.watcher.current.version == version


class Load:
    """Clients that ask in every way, until the block ends, and check every answer."""

    def __init__(self, server: Running, store: ServedStore) -> None:
        self.answers: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._store = store
        self._done = threading.Event()
        self._lock = threading.Lock()
        ways = [self._by_vector, self._by_picture, self._by_id, self._similar]
        self._threads = [threading.Thread(target=self._run, args=(server.port, way)) for way in ways]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def reaches(self, answers: int) -> bool:
        """Waits for so many answers, or for a wrong one."""
        return eventually(lambda: sum(self.answers.values()) >= answers or bool(self.wrong))

    def _run(self, port: int, ask: Callable[[Client], Answer]) -> None:
        with Client(port) as client:
            while not self._done.is_set():
                try:
                    self._check(ask(client))
                except (OSError, AssertionError) as error:
                    with self._lock:
                        self.wrong.append(repr(error))

    def _check(self, answer: Answer) -> None:
        assert answer.status == 200, answer.body
        document = answer.json
        edition = self._store.editions[document["version"]]
        hits = (
            document["hits"] if "hits" in document else [hit for query in document["queries"] for hit in query["hits"]]
        )
        assert hits
        assert {hit["attributes"][EDITION] for hit in hits} == {edition}
        assert {hit["image_id"].split("-")[0] for hit in hits} <= {edition, "both", ODD_ID}
        with self._lock:
            self.answers[edition] += 1

    def _by_vector(self, client: Client) -> Answer:
        return client.search({"vectors": [query_vector(0), query_vector(1)]})

    def _by_picture(self, client: Client) -> Answer:
        return client.search(query_picture())

    def _by_id(self, client: Client) -> Answer:
        return client.search({"image_id": "both-2", "where": {"category": "shoe"}})

    def _similar(self, client: Client) -> Answer:
        return client.ask("GET", f"/v1/items/{quoted(ODD_ID)}/similar")


@pytest.mark.slow
def test_twenty_swaps_under_load_lose_nothing(
    server: Running, store: ServedStore, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "shelfmark.serving")
    served = []
    with Load(server, store) as load:
        for number in range(SWAPS):
            version = store.versions[number % 2]
            enough = sum(load.answers.values()) + 20
            publish_now(Store(store.uri), version)
            answer = client.ask("POST", "/v1/reload")
            assert answer.json == {"version": version, "changed": True}
            served.append(weakref.ref(server.service.watcher.current))
            assert load.reaches(enough)
    assert load.wrong == []
    assert load.answers["one"] > 50
    assert load.answers["two"] > 50
    gc.collect()
    assert [reference() is not None for reference in served] == [False] * (SWAPS - 1) + [True]
    closed = [record.version for record in caplog.records if record.message == "closed"]  # type: ignore[attr-defined]
    assert len(closed) == SWAPS
    assert client.metric('shelfmark_swaps_total{outcome="swapped"}') >= SWAPS


@pytest.mark.slow
def test_the_watcher_follows_current_by_itself(store: ServedStore) -> None:
    with (
        running(ServeOptions(store.uri, poll_interval_s=0.02, threads=2)) as server,
        Load(server, store) as load,
    ):
        for number in range(6):
            version = store.versions[number % 2]
            publish_now(Store(store.uri), version)
            assert eventually(functools.partial(serves, server, version))
    assert load.wrong == []


def test_a_request_that_began_before_a_swap_ends_on_its_version(
    server: Running, store: ServedStore, client: Client
) -> None:
    """Its body arrives after the swap."""
    first, second = store.versions
    body = json.dumps({"image_id": "two-3"}).encode()
    head = (
        "POST /v1/search HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=ENOUGH_S) as early:
        early.sendall(head.encode() + body[:5])
        # It, and the one that asks.
        assert eventually(lambda: client.metric("shelfmark_requests_in_flight") == 2)
        publish_now(Store(store.uri), first)
        assert client.ask("POST", "/v1/reload").json["version"] == first
        early.sendall(body[5:])
        received = b""
        while part := early.recv(1 << 16):
            received += part
    document = json.loads(received.partition(b"\r\n\r\n")[2])
    assert document["version"] == second
    assert client.search({"image_id": "two-3"}).status == 404


@pytest.mark.slow
def test_every_worker_of_the_command_follows(store: ServedStore) -> None:
    """Told by one request, which one of them got; then all of them stop when told to."""
    first, second = store.versions
    with serve_command(store.uri, "--no_pictures", "--workers", "2", "--poll_interval", "3600") as server:

        def served(times: int) -> set[str]:
            found = set()
            for _ in range(times):
                with contextlib.suppress(OSError), Client(server.port) as client:
                    found.add(client.ask("GET", "/readyz").json["version"])
            return found

        assert eventually(lambda: sum(line["event"] == "opened" for line in server.lines) == 2)
        assert eventually(lambda: served(20) == {second})
        publish_now(Store(store.uri), first)
        with Client(server.port) as client:
            assert client.ask("POST", "/v1/reload").json == {"version": first, "changed": True}
        assert eventually(lambda: served(20) == {first})
        with Client(server.port) as client:
            assert client.search({"vector": query_vector()}).json["version"] == first
            assert client.search(query_picture()).status == 422
    assert server.process.returncode == 0
    assert {line["event"] for line in server.lines} >= {"opened", "listening", "request", "closed", "stopped"}
