"""HTTP requests that are no good: lengths, headers, paths, methods; each is answered and harms nobody."""

from __future__ import annotations

import pytest

from tests.support.problems import check_problem
from tests.support.serving import ODD_ID, Client, Running, exchange, query_vector, quoted

JSON = "application/json"


def head(*lines: str, method: str = "POST", path: str = "/v1/search") -> bytes:
    return "\r\n".join((f"{method} {path} HTTP/1.1", "Host: a", "Connection: close", *lines, "", "")).encode("latin-1")


VECTOR = str({"vector": query_vector()}).replace("'", '"').encode()
CHUNKED = head(f"Content-Type: {JSON}", "Transfer-Encoding: chunked")
EXCHANGES: list[tuple[str, bytes, set[bytes]]] = [
    ("two lengths", head("Content-Length: 1", "Content-Length: 2") + b"{}", {b"400"}),
    ("length and chunks", head("Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n", {b"400"}),
    ("negative length", head("Content-Length: -1"), {b"400"}),
    ("length of 23 digits", head("Content-Length: " + "9" * 23), {b"400"}),
    ("length of 2^63", head("Content-Type: image/png", f"Content-Length: {(1 << 63) - 1}"), {b"413"}),
    ("length that is too short", head(f"Content-Type: {JSON}", "Content-Length: 3") + VECTOR, {b"400"}),
    ("no length and no chunks", head(f"Content-Type: {JSON}"), {b"400"}),
    ("length with a plus", head(f"Content-Type: {JSON}", f"Content-Length: +{len(VECTOR)}") + VECTOR, {b"400"}),
    ("unknown coding", head("Content-Type: image/png", "Transfer-Encoding: gzip") + b"0\r\n\r\n", {b"400"}),
    ("one chunk", CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(VECTOR), VECTOR), {b"200"}),
    ("chunks of one byte", CHUNKED + b"".join(b"1;x=y\r\n%c\r\n" % n for n in VECTOR) + b"0\r\nA: b\r\n\r\n", {b"200"}),
    ("chunk of no size", CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n", {b"400"}),
    ("chunk of 2^64", CHUNKED + b"f" * 17 + b"\r\n", {b"400"}),
    (
        "two content types",
        head(f"Content-Type: {JSON}", "Content-Type: image/png", "Content-Length: 2") + b"{}",
        {b"422"},
    ),
    ("letters beyond ASCII in a header", head("Content-Type: \xff\xfe", "Content-Length: 0"), {b"415"}),
    (
        "expects to be told to go on",
        head("Expect: 100-continue", f"Content-Type: {JSON}", "Content-Length: 2") + b"{}",
        {b"100"},
    ),
    ("wants a web socket", head("Upgrade: websocket", method="GET", path="/healthz"), {b"200"}),
    ("no host", b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n", {b"200", b"400"}),
    (
        "a host of nonsense",
        b"DELETE /nowhere HTTP/1.1\r\nHost: [\x80]:x\r\nConnection: close\r\n\r\n",
        {b"404", b"400"},
    ),
    ("HTTP/1.0", b"GET /healthz HTTP/1.0\r\n\r\n", {b"200"}),
    ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {b"400"}),
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", {b"400"}),
    ("a tunnel", b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", {b"400"}),
    ("raw bytes in a path", b"GET /v1/images/\xff HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", {b"400"}),
    ("NUL in a path", b"GET /v1/images/\0 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", {b"400"}),
    ("space in a header's name", head("A b: c", method="GET", path="/healthz"), {b"400"}),
    ("line feeds alone", b"GET /healthz HTTP/1.1\nHost: a\nConnection: close\n\n", {b"200", b"400"}),
    ("a path of 60 kB", head(method="GET", path="/v1/images/" + "x" * 60_000), {b"404"}),
    ("a path of 100 kB", head(method="GET", path="/v1/images/" + "x" * 100_000), {b"400", b"404"}),
    ("2,000 headers", head(*["X: y"] * 2_000, method="GET", path="/healthz"), {b"200"}),
    ("an id that is not sane", head("X-Request-Id: \xff\xfe", method="GET", path="/healthz"), {b"200"}),
]


@pytest.mark.parametrize(("sent", "statuses"), [case[1:] for case in EXCHANGES], ids=[case[0] for case in EXCHANGES])
def test_odd_requests_are_answered_and_the_connection_ends(server: Running, sent: bytes, statuses: set[bytes]) -> None:
    answer = exchange(server.port, sent)
    assert answer[9:12] in statuses, answer[:500]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"/v1/images/{quoted(ODD_ID)}", 200),
        (f"/v1/images/{quoted(ODD_ID)}/thumbnail", 200),
        (f"/v1/items/{quoted(ODD_ID)}/similar", 200),
        (f"/v1/images/{quoted(ODD_ID).replace('%2F', '/')}", 200),
        ("/v1/images/%", 404),
        ("/v1/images/%zz", 404),
        ("/v1/images/%ff%fe", 404),
        ("/v1/images/%00", 404),
        ("/v1/images/%ED%A0%BD/thumbnail", 404),
        ("/v1/images/", 404),
        ("/v1/images//thumbnail", 404),
        ("/v1/items//similar", 404),
        ("/v1/images/..%2f..%2f..%2fetc%2fpasswd/thumbnail", 404),
        ("/v1/images/../../../etc/passwd", 404),
        ("/..%2fserving/run.py", 404),
        ("//v1/index", 404),
        ("/v1/items/sku-1/similar?where=%00=%00", 422),
        ("/v1/items/sku-1/similar?where=category=%ff", 200),
        ("/v1/items/sku-1/similar?k=%D9%A3", 422),
        ("/v1/items/sku-1/similar?k=1e1", 422),
        ("/v1/items/sku-1/similar?k=-0", 422),
        ("/v1/items/sku-1/similar?k=3&k=3", 422),
        ("/v1/items/sku-1/similar?" + "&".join(["where=category=shoe"] * 2), 422),
        ("/v1/items/sku-1/similar?where=category=" + "x" * 5000, 422),
        ("/v1/images/both-2/thumbnail?size=161", 422),
        ("/v1/images/both-2/thumbnail?size=320&size=320", 422),
    ],
)
def test_odd_paths(client: Client, path: str, status: int) -> None:
    answer = client.ask("GET", path)
    assert answer.status == status, answer.body[:500]
    check_problem(answer)


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND"])
@pytest.mark.parametrize("path", ["/v1/search", "/v1/index", "/v1/images/both-2", "/healthz", "/nowhere"])
def test_other_methods_are_refused(client: Client, method: str, path: str) -> None:
    answer = client.ask(method, path)
    assert answer.status in (404, 405) or (method == "HEAD" and answer.status == 200)
    assert answer.headers.get("allow") or answer.status != 405
