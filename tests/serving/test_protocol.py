"""Clients that send slowly, read nothing or leave: others are answered meanwhile, and nothing of them stays."""

from __future__ import annotations

import contextlib
import functools
import socket
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from serving import metrics
from serving.options import MIB, UNCOUNTED_BYTES, ServeOptions
from serving.protocol import MAX_HEAD_BYTES
from tests.support.fakes import FakeEncoder
from tests.support.serving import Client, Running, ServedStore, query_picture, query_vector, running

HEADER_TIMEOUT_S, TIMEOUT_S = 1.0, 2.0
ENOUGH_S = 120.0
MAX_CONNECTIONS = 300
SLOW = 200
HEAD = b"POST /v1/search HTTP/1.1\r\nHost: a\r\nContent-Type: image/jpeg\r\n"
GET = b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture(scope="module")
def server(served_store: ServedStore) -> Iterator[Running]:
    options = ServeOptions(
        served_store.uri,
        poll_interval_s=3600,
        threads=2,
        timeout_s=TIMEOUT_S,
        header_timeout_s=HEADER_TIMEOUT_S,
        max_connections=MAX_CONNECTIONS,
    )
    with running(options, FakeEncoder(hold_s=0.02)) as server:
        yield server


def eventually(holds: Callable[[], bool]) -> bool:
    """Whether it comes to hold; generous, for other programs use this machine too."""
    until_s = time.monotonic() + ENOUGH_S
    while time.monotonic() < until_s:
        if holds():
            return True
        time.sleep(0.01)
    return False


def is_at_rest(server: Running) -> bool:
    """Whether nothing of any request is left."""
    gauges = (metrics.IN_FLIGHT, metrics.PICTURES_WAITING, metrics.QUERIES_WAITING)
    return server.service.uploads.held_bytes == 0 and all(_value(gauge) == 0 for gauge in gauges)


def _value(gauge: object) -> float:
    return gauge.collect()[0].samples[0].value  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def nothing_stays(server: Running) -> Iterator[None]:
    yield
    assert eventually(lambda: is_at_rest(server))
    with Client(server.port) as client:
        assert client.search(query_picture()).status == 200


@contextlib.contextmanager
def connections(server: Running, count: int, receive_buffer_bytes: int = 0) -> Iterator[list[socket.socket]]:
    """Open connections."""
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(count):
            connection = stack.enter_context(socket.socket())
            if receive_buffer_bytes:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
            connection.settimeout(ENOUGH_S)
            connection.connect(("127.0.0.1", server.port))
            opened.append(connection)
        yield opened


def ends(connection: socket.socket) -> bytes:
    """What came before the server ended the connection; a timeout fails."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(1 << 16):
            received += part
    return received


def others_are_answered(server: Running) -> None:
    with Client(server.port, timeout_s=ENOUGH_S) as client:
        for seed in range(20):
            assert client.search({"vector": query_vector(seed)}).status == 200
        for _ in range(5):
            assert client.search(query_picture()).status == 200


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"", b""),
        (b"P", b""),
        (HEAD, b""),
        (HEAD + b"Content-Length: 100000\r\n\r\n", b"408"),
        (HEAD + b"Content-Length: 100000\r\n\r\n" + bytes(50_000), b"408"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab", b"408"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nTrailer: ", b"408"),
        (GET + GET[:20], b"200"),
    ],
    ids=[
        "nothing",
        "letter",
        "half a head",
        "head",
        "half a body",
        "half a chunk",
        "half a trailer",
        "a head and a half",
    ],
)
def test_who_stops_sending_is_ended_and_others_are_answered(server: Running, sent: bytes, answer: bytes) -> None:
    with connections(server, SLOW) as slow:
        for connection in slow:
            connection.sendall(sent)
        others_are_answered(server)
        answers = [ends(connection) for connection in slow]
    assert {received.split(b" ", 2)[1] if received else b"" for received in answers} == {answer}


def test_who_sends_a_byte_now_and_then_is_ended(server: Running) -> None:
    """In a head, between requests, in a trailer and in a body that has been answered already: nothing begins anew."""
    refused = HEAD.replace(b"image/jpeg", b"text/html") + b"Content-Length: 1000000000\r\n\r\n"
    trailer = HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nTrailer: "
    begun = [HEAD, GET, trailer, refused]
    with connections(server, len(begun)) as slow:
        for connection, first in zip(slow, begun, strict=True):
            connection.sendall(first)

        def is_ended(connection: socket.socket, drop: bytes) -> bool:
            try:
                connection.sendall(drop)
            except ConnectionError:
                return True
            return False

        for connection, drop in zip(slow, (b"X", b"\r\n", b"x", b"x"), strict=True):
            assert eventually(functools.partial(is_ended, connection, drop))


CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("begun", "endless"),
    [
        (b"GET /", b"x"),
        (b"GET / HTTP/1.1\r\nX: ", b"y"),
        (b"GET / HTTP/1.1\r\n", b"X: y\r\n"),
        (b"", b"\r\n"),
        (CHUNKED + b"0\r\n", b"X: y\r\n"),
        (CHUNKED + b"0\r\nX: ", b"y"),
        (CHUNKED + b"1;", b"x"),
    ],
    ids=["path", "header", "headers", "empty lines", "trailers", "trailer", "chunk extension"],
)
def test_what_never_ends_is_cut_off(server: Running, begun: bytes, endless: bytes) -> None:
    piece = endless * (MAX_HEAD_BYTES // len(endless))
    with connections(server, 1) as (connection,):
        with contextlib.suppress(ConnectionError):
            connection.sendall(begun)
            for _ in range(1000):
                connection.sendall(piece)
            pytest.fail(f"{1000 * len(piece):,} bytes were taken")
        assert b"200" not in ends(connection)[:20]


def test_who_reads_nothing_is_ended(server: Running) -> None:
    """Answers fill the buffers of both sides; then a request waits for its client, but no longer than it may."""
    document = b'{"vectors":[' + b",".join([str(query_vector()).encode()] * 64) + b'],"k":24}'
    request = (
        HEAD.replace(b"image/jpeg", b"application/json") + b"Content-Length: %d\r\n\r\n" % len(document) + document
    )
    before = _open_connections(server)
    with connections(server, 4, receive_buffer_bytes=4096) as deaf:
        for connection in deaf:
            connection.sendall(request * 40)
        others_are_answered(server)
        assert eventually(lambda: _open_connections(server) <= before)


def _open_connections(server: Running) -> int:
    """Connections that the server's side has open."""
    return sum(
        found.laddr.port == server.port and found.status in ("ESTABLISHED", "CLOSE_WAIT", "FIN_WAIT1")
        for found in psutil.Process().net_connections("tcp")
    )


def test_who_asks_without_waiting_is_ended(server: Running) -> None:
    """Requests sent ahead are answered one after the other, up to a limit; beyond it they would pile up in memory."""
    with connections(server, 1) as (connection,):
        connection.sendall(GET * 30)
        received = b""
        while received.count(b"HTTP/1.1 200 OK") < 30:
            received += connection.recv(1 << 16)
    with connections(server, 1) as (connection,):
        with contextlib.suppress(ConnectionError):
            for _ in range(2000):
                connection.sendall(GET * 50)
            pytest.fail("100,000 requests were taken")
        ends(connection)


def test_uploads_that_stop_leave_room_for_small_bodies(served_store: ServedStore) -> None:
    large = HEAD + b"Content-Length: %d\r\n\r\n" % MIB + bytes(MIB - 10)
    options = ServeOptions(served_store.uri, poll_interval_s=3600, threads=2, max_uploads_bytes=4 * MIB)
    with running(options) as server, connections(server, 8) as slow:
        for connection in slow:
            with contextlib.suppress(ConnectionError):  # the last ones find no room
                connection.sendall(large)
        assert eventually(lambda: server.service.uploads.held_bytes == 5 * (MIB - 10 - UNCOUNTED_BYTES))
        others_are_answered(server)


def test_a_connection_beyond_the_limit_is_closed(server: Running) -> None:
    with connections(server, MAX_CONNECTIONS) as some:
        # They are accepted in turn: once the last has been, the next ones find no place.
        some[-1].sendall(GET)
        with connections(server, 20) as beyond:
            assert [ends(connection) for connection in beyond] == [b""] * 20
    assert eventually(lambda: _open_connections(server) < MAX_CONNECTIONS)


def test_who_leaves_takes_everything_along(server: Running) -> None:
    picture = query_picture()
    whole = HEAD + b"Content-Length: %d\r\n\r\n" % len(picture) + picture
    for sent in (whole[:-1], whole, whole * 3, HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab"):
        with connections(server, 40) as leaving:
            for connection in leaving:
                connection.sendall(sent)
        others_are_answered(server)
        assert eventually(lambda: is_at_rest(server))
