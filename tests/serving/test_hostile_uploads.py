"""Whatever is sent to `POST /v1/search` is answered with 2xx or 4xx, soon, and in bounded memory."""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from collections.abc import Iterator

import psutil
import pytest

from serving import uploads
from tests.support.hostile import hostile_files
from tests.support.in_threads import in_threads
from tests.support.problems import check_problem
from tests.support.serve_process import ServeProcess, serve_apart
from tests.support.serving import Client, Running, ServedStore, multipart, query_picture

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
