"""Whatever is sent to `POST /v1/search` is answered with 2xx or 4xx, soon, and in bounded memory."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator

import psutil
import pytest

from serving import uploads
from serving.options import MAX_DOCUMENT_BYTES
from serving.problem import Problem
from serving.search_request import parse_document
from tests.support.hostile import hostile_files
from tests.support.serving import (
    ODD_ID,
    Answer,
    Client,
    Running,
    ServedStore,
    ServeProcess,
    exchange,
    in_threads,
    multipart,
    query_picture,
    query_vector,
    quoted,
    serve_apart,
)

MUTATIONS = int(os.environ.get("SHELFMARK_FUZZ_MUTATIONS", "1500"))
GROWTH_LIMIT_BYTES = 300 << 20
JSON = "application/json"


@pytest.fixture(scope="module")
def apart(served_store: ServedStore) -> Iterator[ServeProcess]:
    with serve_apart(served_store.uri) as server:
        yield server


def mutated(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """The data with bits flipped, header bytes overwritten, or pieces cut out, repeated or taken from another file."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        if not changed:
            break
        start = chance.randrange(len(changed))
        end = start + chance.choice((1, 2, 4, 16, 256, 4096))
        kind = chance.randrange(6)
        if kind == 0:
            changed[start] ^= 1 << chance.randrange(8)
        elif kind == 1:
            place = chance.randrange(min(64, len(changed)))
            changed[place : place + 4] = chance.choice(
                (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff", chance.randbytes(4))
            )
        elif kind == 2:
            del changed[start:]
        elif kind == 3:
            del changed[start:end]
        elif kind == 4:
            changed[start:start] = changed[start:end] * chance.randint(1, 8)
        else:
            other = chance.choice(others)
            changed[start:] = other[min(start, len(other)) :]
    return bytes(changed)


@pytest.mark.slow
def test_mutated_pictures_are_answered_in_bounded_memory(apart: ServeProcess) -> None:
    files = [data for _, data, _ in hostile_files() if len(data) < 1 << 20]
    process = psutil.Process(apart.process.pid)
    statuses: Counter[int] = Counter()
    lock = threading.Lock()

    def send(worker: int, count: int, seed: int) -> None:
        chance = random.Random(seed + worker)
        with Client(apart.port, timeout_s=60) as client:
            for number in range(count):
                data = mutated(chance.choice(files), files, chance)
                if number % 2:
                    answer = client.search(data, media_type=chance.choice(("image/jpeg", "application/octet-stream")))
                else:
                    body, media_type = multipart(data)
                    answer = client.search(body, media_type=media_type)
                with lock:
                    statuses[answer.status] += 1
                assert answer.status in (200, 422) or (answer.status == 400 and not data), answer.body

    in_threads(2, lambda worker: send(worker, 100, seed=0))  # what libraries and threads take once
    before_bytes = process.memory_info().rss
    in_threads(2, lambda worker: send(worker, MUTATIONS // 2, seed=10))
    grown_bytes = process.memory_info().rss - before_bytes
    print(f"{MUTATIONS} mutations: {dict(statuses)}, {before_bytes >> 20} MiB before, {grown_bytes >> 20} MiB more")
    assert grown_bytes < GROWTH_LIMIT_BYTES
    assert statuses[200] > 20
    assert statuses[422] > 20
    with Client(apart.port) as client:
        assert client.metric("shelfmark_pictures_waiting") == 0
        assert client.search(query_picture()).status == 200


@pytest.mark.slow
def test_hostile_pictures_are_answered(client: Client) -> None:
    for name, data, outcome in hostile_files():
        if len(data) > 16 << 20:
            continue
        answer = client.search(data, media_type="application/octet-stream")
        if isinstance(outcome, str):
            assert answer.status == 200, name
            assert answer.json["queries"][0]["picture"]["width"] > 0
        else:
            assert answer.status == 422, name
            assert answer.json["reason"] in {reason.value for reason in outcome}, name


def vector_with(number: bytes) -> bytes:
    return b'{"vector":[' + b",".join([number] * 16) + b"]}"


DOCUMENTS: list[tuple[str, bytes, set[int]]] = [
    ("nothing", b"", {400}),
    ("deep list", b"[" * 100_000, {400, 422}),
    ("deep object", b'{"where":' * 100_000, {400, 422}),
    ("deep and whole", b'{"where":' * 500 + b"{}" + b"}" * 500, {422}),
    ("list", b"[]", {422}),
    ("number", b"1", {422}),
    ("null", b"null", {422}),
    ("NaN", vector_with(b"NaN"), {400}),
    ("Infinity", vector_with(b"-Infinity"), {400}),
    ("too large for a float", vector_with(b"1e999"), {400}),
    ("too large for a square", vector_with(b"1e300"), {422}),
    ("too small for a square", vector_with(b"1e-300"), {422}),
    ("a thousand digits", vector_with(b"9" * 1000), {400}),
    ("zeros", vector_with(b"0"), {422}),
    ("text for numbers", vector_with(b'"1"'), {422}),
    ("lists for numbers", vector_with(b"[1]"), {422}),
    ("no numbers", b'{"vector":[]}', {422}),
    ("no vectors", b'{"vectors":[]}', {422}),
    ("an empty vector", b'{"vectors":[[]]}', {422}),
    ("65 vectors", b'{"vectors":[' + b",".join([b"[1]"] * 65) + b"]}", {422}),
    ("odd base64", b'{"vector":"AAA"}', {422}),
    ("base64 of 3 bytes", b'{"vector":"AAAA"}', {422}),
    ("base64 of NaN", b'{"vector":"' + b"AADAfwAAwH8A" * 8 + b'"}', {422}),
    ("k twice", b'{"image_id":"both-2","k":2,"k":3}', {200}),
    ("k too large", b'{"image_id":"both-2","k":18446744073709551616}', {400, 422}),
    ("k is text", b'{"image_id":"both-2","k":"3"}', {422}),
    ("k is true", b'{"image_id":"both-2","k":true}', {422}),
    ("id twice", b'{"image_id":"nowhere","image_id":"both-2"}', {200}),
    ("two queries", b'{"image_id":"both-2","item_id":"sku-1"}', {422}),
    ("invalid UTF-8", b'{"image_id":"\xff\xfe"}', {400}),
    ("lone surrogate", b'{"image_id":"\\ud83d"}', {400}),
    ("raw lone surrogate", b'{"image_id":"\xed\xa0\xbd"}', {400}),
    ("NUL in an id", b'{"image_id":"both-2\\u0000"}', {404}),
    ("NUL in a condition", b'{"image_id":"both-2","where":{"category":"\\u0000"}}', {200}),
    ("NUL in an attribute", b'{"image_id":"both-2","where":{"\\u0000":"a"}}', {422}),
    ("id of 4 MB", b'{"image_id":"' + b"x" * 4_000_000 + b'"}', {422}),
    ("URL of 4 MB", b'{"image_url":"https://' + b"x" * 4_000_000 + b'"}', {422}),
    ("condition of 4 MB", b'{"item_id":"sku-1","where":{"category":"' + b"x" * 4_000_000 + b'"}}', {422}),
    ("name of 4 MB", b'{"' + b"x" * 4_000_000 + b'":1,"item_id":"sku-1"}', {422}),
    ("key of 4 MB without query", b'{"' + b"x" * 4_000_000 + b'":1}', {422}),
    ("a million members", b'{"item_id":"sku-1",' + b",".join(b'"%d":1' % n for n in range(1_000_000)) + b"}", {413}),
    ("a million conditions", b'{"where":{' + b",".join(b'"%d":1' % n for n in range(1_000_000)) + b"}}", {413}),
    ("five million numbers", b'{"vector":[' + b"1," * 5_000_000 + b"1]}", {413}),
    ("five million lists", b'{"vectors":[' + b"[]," * 5_000_000 + b"[]]}", {413}),
    ("crop of a vector", b'{"item_id":"sku-1","crop":{"x":0,"y":0,"width":1,"height":1}}', {422}),
    ("crop of nothing", b'{"image_id":"both-2","crop":{"x":0,"y":0,"width":0,"height":1}}', {422}),
    ("crop beside the picture", b'{"image_id":"both-2","crop":{"x":9999,"y":0,"width":1,"height":1}}', {422}),
    ("a UTF-8 mark", b'\xef\xbb\xbf{"image_id":"both-2"}', {200, 400}),
    ("UTF-16", '{"image_id":"both-2"}'.encode("utf-16"), {400}),
]


@pytest.mark.parametrize(("body", "statuses"), [case[1:] for case in DOCUMENTS], ids=[case[0] for case in DOCUMENTS])
def test_odd_documents_are_answered_soon_and_briefly(client: Client, body: bytes, statuses: set[int]) -> None:
    answer = client.search(body, media_type=JSON)
    assert answer.status in statuses, answer.body[:500]
    check_problem(answer)


def check_problem(answer: Answer) -> None:
    """Errors are problem documents, and repeat little of what was sent."""
    if answer.status >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json["status"] == answer.status
        assert len(answer.body) < 1_000 + 4 * 4096


@pytest.mark.parametrize("body", [body for name, body, _ in DOCUMENTS if "million" in name])
def test_a_large_document_takes_little_of_the_time_that_all_requests_share(body: bytes) -> None:
    started_s = time.thread_time()
    with pytest.raises(Problem):
        parse_document(body)
    assert time.thread_time() - started_s < 0.2  # each of these took seconds before it was counted what they hold


PICTURE = query_picture()
FORM, FORM_TYPE = multipart(PICTURE)
B = FORM_TYPE.partition("boundary=")[2].encode()


def part(head: bytes, content: bytes) -> bytes:
    return b"--" + B + b"\r\n" + head + b"\r\n\r\n" + content + b"\r\n"


IMAGE = part(b'Content-Disposition: form-data; name="image"; filename="a"', PICTURE)
END = b"--" + B + b"--\r\n"


def field(name: str, value: bytes) -> bytes:
    return part(f'Content-Disposition: form-data; name="{name}"'.encode(), value)


FORMS: list[tuple[str, bytes, str, set[int]]] = [
    ("as it should be", FORM, FORM_TYPE, {200}),
    ("nothing", b"", FORM_TYPE, {400, 422}),
    ("no boundary", FORM, "multipart/form-data", {400}),
    ("empty boundary", FORM, "multipart/form-data; boundary=", {400}),
    ("boundary of 10 kB", FORM, f"multipart/form-data; boundary={'x' * 10_000}", {400, 422}),
    ("another boundary", FORM, "multipart/form-data; boundary=other", {400, 422}),
    ("cut short", FORM[: len(FORM) // 2], FORM_TYPE, {200, 400, 422}),
    ("no end", FORM.removesuffix(b"--\r\n"), FORM_TYPE, {200, 400, 422}),
    ("noise", random.Random(0).randbytes(50_000), FORM_TYPE, {400, 422}),
    ("another name", FORM.replace(b'name="image"', b'name="other"'), FORM_TYPE, {422}),
    ("no name", FORM.replace(b'name="image"; ', b""), FORM_TYPE, {400}),
    ("no disposition", part(b"X: y", PICTURE) + END, FORM_TYPE, {400}),
    ("two pictures", IMAGE + IMAGE + END, FORM_TYPE, {400, 422}),
    ("picture as text", field("image", b"text") + END, FORM_TYPE, {422}),
    ("no picture", field("k", b"3") + END, FORM_TYPE, {422}),
    ("65 fields", field("where", b"category=shoe") * 65 + IMAGE + END, FORM_TYPE, {400, 422}),
    ("a field of 2 MB", field("where", b"x" * (2 << 20)) + IMAGE + END, FORM_TYPE, {400}),
    ("unknown field", field("colour", b"red") + IMAGE + END, FORM_TYPE, {422}),
    ("k twice", field("k", b"3") + field("k", b"3") + IMAGE + END, FORM_TYPE, {422}),
    ("k in other digits", field("k", "\u0663".encode()) + IMAGE + END, FORM_TYPE, {422}),
    ("invalid UTF-8", field("where", b"category=\xff") + IMAGE + END, FORM_TYPE, {200, 400}),
    ("NUL", field("where", b"category=\0") + IMAGE + END, FORM_TYPE, {200}),
    (
        "half a character",
        field("where", rb"category=\ud83d") + IMAGE + END,
        FORM_TYPE + "; charset=unicode_escape",
        {400},
    ),
    ("no charset", field("where", b"category=shoe") + IMAGE + END, FORM_TYPE + "; charset=nonesuch", {400}),
    ("no text", field("where", b"category=shoe") + IMAGE + END, FORM_TYPE + "; charset=hex", {400}),
    (
        "a text that takes the square of its length",
        field("where", ("a" + "\u00fc" * (1 << 18)).encode("punycode")) + IMAGE + END,
        FORM_TYPE + "; charset=punycode",
        {400},
    ),
    ("a head of 1 MB", part(b"X: " + b"y" * (1 << 20), b"") + IMAGE + END, FORM_TYPE, {200, 400, 422}),
    ("10,000 heads", part(b"\r\n".join([b"X: y"] * 10_000), b"") + IMAGE + END, FORM_TYPE, {200, 400, 422}),
    ("spaces after a boundary", IMAGE.rstrip() + (b"\r\n--" + B).ljust(15 << 20), FORM_TYPE, {400}),
    ("near-boundaries", IMAGE.rstrip() + (b"\r\n--" + B + b"X") * 500_000, FORM_TYPE, {400}),
    ("a path for a name", FORM.replace(b'"a.jpg"', b'"../../etc/passwd"'), FORM_TYPE, {200}),
]


@pytest.mark.parametrize(
    ("body", "media_type", "statuses"), [case[1:] for case in FORMS], ids=[case[0] for case in FORMS]
)
def test_odd_forms_are_answered(client: Client, body: bytes, media_type: str, statuses: set[int]) -> None:
    answer = client.search(body, media_type=media_type)
    assert answer.status in statuses, answer.body[:500]
    check_problem(answer)


@pytest.mark.parametrize(
    ("media_type", "status"),
    [
        ("", 415),
        ("text/html", 415),
        ("application/jsonx", 415),
        ("multipart/mixed; boundary=x", 415),
        ("image/", 200),
        ("IMAGE/JPEG; q=1; q=2", 200),
        ("image/svg+xml", 200),
        ("Application/JSON; charset=latin-1", 400),
        (";;;", 415),
        ("image/jpeg, application/json", 200),
    ],
)
def test_content_types(client: Client, media_type: str, status: int) -> None:
    answer = client.search(PICTURE, media_type=media_type)
    assert answer.status == status
    check_problem(answer)


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


def test_while_a_form_is_read_others_are_answered(
    server: Running, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go = threading.Event(), threading.Event()

    def hold(content_type: str, body: bytes) -> uploads.Form:
        begun.set()
        assert go.wait(120)
        return read_form(content_type, body)

    read_form = uploads.read_form
    monkeypatch.setattr(uploads, "read_form", hold)
    statuses: list[int] = []

    def send() -> None:
        with Client(server.port) as another:
            statuses.append(another.search(FORM, media_type=FORM_TYPE).status)

    sending = threading.Thread(target=send)
    sending.start()
    try:
        assert begun.wait(120)
        assert client.ask("GET", "/healthz").status == 200
        assert client.search(PICTURE).status == 200
        assert not statuses
    finally:
        go.set()
        sending.join(20)
    assert statuses == [200]


@pytest.mark.parametrize("size_bytes", [16 << 20, (16 << 20) + 1])
def test_bodies_up_to_the_limit_are_read(client: Client, size_bytes: int) -> None:
    answer = client.search(bytes(size_bytes))
    assert answer.status == (422 if size_bytes == 16 << 20 else 413)
    check_problem(answer)


@pytest.mark.parametrize(("size_bytes", "status"), [(MAX_DOCUMENT_BYTES, 200), (MAX_DOCUMENT_BYTES + 1, 413)])
def test_documents_have_a_limit_of_their_own(client: Client, size_bytes: int, status: int) -> None:
    answer = client.search(b'{"image_id":"both-2"}'.ljust(size_bytes), media_type=JSON)
    assert answer.status == status
    check_problem(answer)
