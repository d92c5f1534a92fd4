"""More than it can do: what there is no room for is turned away at once, the rest is answered, and then all is well."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from serving.options import UNCOUNTED_BYTES, ServeOptions
from tests.support.fakes import FakeEncoder
from tests.support.in_threads import in_threads
from tests.support.serving import Answer, Client, Running, ServedStore, query_picture, query_vector, running

BATCH, HOLD_S = 4, 0.05
MAX_PICTURES, MAX_QUERIES, MAX_UPLOADS_BYTES = 8, 4, 1 << 20
CLIENTS = 40
ENOUGH_S = 120.0
"""Bounds a test that fails, on a machine that other programs use too."""


@pytest.fixture(scope="module")
def encoder() -> FakeEncoder:
    return FakeEncoder(BATCH, HOLD_S)


@pytest.fixture(scope="module")
def server(served_store: ServedStore, encoder: FakeEncoder) -> Iterator[Running]:
    options = ServeOptions(
        served_store.uri,
        poll_interval_s=3600,
        threads=2,
        batch_size=BATCH,
        max_waiting_pictures=MAX_PICTURES,
        max_waiting_queries=MAX_QUERIES,
        max_uploads_bytes=MAX_UPLOADS_BYTES,
    )
    with running(options, encoder) as server:
        yield server


@dataclasses.dataclass
class Load:
    """What came of many requests at once."""

    statuses: Counter[int]
    most_pictures: float
    most_queries: int


def offer(server: Running, body: object, refused: int) -> Load:
    """Many clients that ask again as soon as they are answered, and look at no Retry-After, until many were answered
    and so many refused."""
    load = Load(Counter(), 0, 0)
    lock = threading.Lock()
    until_s = time.monotonic() + ENOUGH_S

    def goes_on() -> bool:
        return (load.statuses[200] < 60 or load.statuses[503] < refused) and time.monotonic() < until_s

    def ask(_: int) -> None:
        with Client(server.port) as client:
            while goes_on():
                answer = client.search(body)
                check(answer)
                with lock:
                    load.statuses[answer.status] += 1

    def look() -> None:
        with Client(server.port) as client:
            while goes_on():
                load.most_pictures = max(load.most_pictures, client.metric("shelfmark_pictures_waiting"))
                load.most_queries = max(load.most_queries, server.service.threads._searching.waiting)

    in_threads(CLIENTS + 1, lambda number: look() if number == CLIENTS else ask(number))
    return load


def check(answer: Answer) -> None:
    """What may be answered under overload."""
    assert answer.status in (200, 503), answer.body
    if answer.status == 503:
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json["detail"].startswith("busy: ")


@pytest.mark.parametrize("kind", ["picture", "crop of the catalog's picture"])
def test_too_many_pictures(server: Running, encoder: FakeEncoder, kind: str) -> None:
    crop = {"x": 0, "y": 0, "width": 40, "height": 40}
    body = query_picture() if kind == "picture" else {"image_id": "both-2", "crop": crop}
    with Client(server.port) as client:
        load = offer(server, body, refused=60)
        assert load.statuses[200] >= 60, load
        assert load.statuses[503] >= 60, load
        assert load.most_pictures <= MAX_PICTURES
        assert max(encoder.batches) <= BATCH
        for _ in range(20):
            assert client.search(body).status == 200
        assert client.metric("shelfmark_pictures_waiting") == 0


def test_too_many_searches(server: Running) -> None:
    load = offer(server, {"vectors": [query_vector(seed) for seed in range(64)], "k": 15}, refused=10)
    assert load.statuses[200] >= 60, load
    assert load.statuses[503] >= 10, load
    # Room is looked for before a body is read: who comes meanwhile is let in, up to what the queue itself holds.
    assert load.most_queries <= MAX_QUERIES + MAX_PICTURES
    with Client(server.port) as client:
        for seed in range(20):
            assert client.search({"vector": query_vector(seed)}).status == 200
        assert client.metric("shelfmark_queries_waiting") == 0


def test_too_many_uploads(server: Running) -> None:
    """Bodies that have not come whole count as far as they have come."""
    head = b"POST /v1/search HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 500000\r\n\r\n"
    sent = head + b" " * (150_000 + UNCOUNTED_BYTES)
    with contextlib.ExitStack() as stack:
        halves = []
        for _ in range(20):
            half = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=ENOUGH_S))
            with contextlib.suppress(ConnectionError):
                half.sendall(sent)
            halves.append(half)
        refused = 0
        until_s = time.monotonic() + ENOUGH_S
        while refused < 13 and time.monotonic() < until_s:
            assert server.service.uploads.held_bytes <= MAX_UPLOADS_BYTES
            for half in list(halves):
                half.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    answer = half.recv(4096)
                    assert answer.startswith(b"HTTP/1.1 503 ")
                    halves.remove(half)
                    refused += 1
        assert refused >= 13, "only so many fit"
        assert server.service.uploads.held_bytes > 0
        with Client(server.port) as client:
            assert client.ask("GET", "/v1/items/sku-1/similar").status == 200
    while server.service.uploads.held_bytes:
        assert time.monotonic() < until_s
    with Client(server.port) as client:
        assert client.search({"vector": query_vector()}).status == 200
