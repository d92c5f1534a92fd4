"""Bodies: limited one by one and all together, whatever becomes of the request."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest
from fastapi import Request
from prometheus_client import REGISTRY

from serving import uploads
from serving.problem import Problem
from serving.uploads import Form, Forms, Upload, UploadBudget, read_form
from tests.support.serving import multipart


@pytest.fixture
def all_counted(monkeypatch) -> None:
    """For bodies of a few bytes."""
    monkeypatch.setattr(uploads, "UNCOUNTED_BYTES", 0)


def request(parts: Sequence[bytes], media_type: str = "image/jpeg", **headers: str) -> Request:
    """A request whose body comes in parts."""
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    messages.append({"type": "http.request", "body": b"", "more_body": False})
    waiting = iter(messages)

    async def receive() -> dict[str, Any]:
        return next(waiting)

    named = {"content-type": media_type, **{name.replace("_", "-"): value for name, value in headers.items()}}
    scope = {
        "type": "http",
        "method": "POST",
        "headers": [(name.encode(), value.encode()) for name, value in named.items()],
        "state": {"bytes_in": 0},
    }
    return Request(scope, receive)


def refused() -> float:
    return REGISTRY.get_sample_value("shelfmark_refused_total", {"reason": "uploads_full"}) or 0.0


@pytest.mark.parametrize("parts", [[], [b"abc"], [b"ab", b"", b"c"], [b"a" * 10]])
@pytest.mark.usefixtures("all_counted")
def test_a_body_is_whole_and_counted_until_the_block_ends(parts):
    budget = UploadBudget(100)
    asked = request(parts, content_length=str(sum(map(len, parts))))
    with Upload(asked, 10, budget) as upload:
        assert asyncio.run(upload.read()) == b"".join(parts)
        assert budget.held_bytes == asked.scope["state"]["bytes_in"] == sum(map(len, parts))
    assert budget.held_bytes == 0


def test_a_body_that_is_announced_as_too_large_is_not_read():
    budget = UploadBudget(100)
    with pytest.raises(Problem) as problem, Upload(request([], content_length="12345"), 10, budget) as upload:
        asyncio.run(upload.read())
    assert (problem.value.status, problem.value.detail) == (
        413,
        "expected a body of at most 10 bytes, found 12,345 bytes",
    )


@pytest.mark.parametrize("parts", [[b"1234"], [b"12", b"34"]])
def test_a_small_body_is_not_counted(parts, monkeypatch):
    monkeypatch.setattr(uploads, "UNCOUNTED_BYTES", 4)
    budget = UploadBudget(0)
    with Upload(request(parts), 10, budget) as upload:
        assert asyncio.run(upload.read()) == b"1234"
    with (
        pytest.raises(Problem, match="too many uploads at once"),
        Upload(request([*parts, b"5"]), 10, budget) as upload,
    ):
        asyncio.run(upload.read())


def test_a_large_body_counts_beyond_its_beginning(monkeypatch):
    monkeypatch.setattr(uploads, "UNCOUNTED_BYTES", 4)
    budget = UploadBudget(10)
    asked = request([b"123", b"456", b"789"])
    with Upload(asked, 10, budget) as upload:
        asyncio.run(upload.read())
        assert (budget.held_bytes, asked.scope["state"]["bytes_in"]) == (5, 9)
    assert budget.held_bytes == 0


def test_a_body_that_goes_on_for_too_long_is_given_up():
    budget = UploadBudget(100)
    with pytest.raises(Problem) as problem, Upload(request([b"12345", b"12345", b"1"]), 10, budget) as upload:
        asyncio.run(upload.read())
    assert (problem.value.status, problem.value.detail) == (413, "expected a body of at most 10 bytes, found more")
    assert budget.held_bytes == 0


@pytest.mark.usefixtures("all_counted")
def test_all_bodies_together_have_a_limit():
    budget, before = UploadBudget(12), refused()
    with Upload(request([b"12345678"]), 10, budget) as first:
        asyncio.run(first.read())
        with pytest.raises(Problem) as problem, Upload(request([b"1234", b"5"]), 10, budget) as second:
            asyncio.run(second.read())
        assert (problem.value.status, problem.value.headers) == (503, {"Retry-After": "2"})
        assert budget.held_bytes == 8
        assert refused() == before + 1
    with Upload(request([b"1234567890"]), 10, budget) as third:
        asyncio.run(third.read())
    assert budget.held_bytes == 0


def test_a_form_has_fields_and_a_file():
    body, media_type = multipart(b"\x00picture\r\n", {"k": "3", "where": "a=\u00e9"})
    assert read_form(media_type, body) == ({"k": ["3"], "where": ["a=\u00e9"]}, b"\x00picture\r\n")


def test_a_field_may_come_more_than_once():
    body, media_type = multipart(b"p", {"where": "a=b", "WHERE": "c=d"})
    assert read_form(media_type, body.replace(b"WHERE", b"where"))[0] == {"where": ["a=b", "c=d"]}


def test_a_form_may_lack_the_file():
    body, media_type = multipart(b"text", {})
    assert read_form(media_type, body.replace(b'; filename="a.jpg"', b"")) == ({"image": ["text"]}, None)


def test_a_large_file_stays_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    picture = bytes(3 << 20)
    body, media_type = multipart(picture)
    assert read_form(media_type, body)[1] == picture


def test_a_file_of_another_name_is_refused():
    body, media_type = multipart(b"p", name="picture")
    with pytest.raises(Problem) as problem:
        read_form(media_type, body)
    assert problem.value.status == 422
    assert problem.value.detail == "expected the picture in a file field named image, found 'picture'"


BODY, TYPE = multipart(b"p", {"k": "3"})


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (BODY, "multipart/form-data"),
        (BODY, "multipart/form-data; boundary=another"),
        (b"no form at all", TYPE),
        (BODY.replace(b'; name="k"', b""), TYPE),
        (BODY.replace(b"Content-Disposition: form-data", b"Content-Type: text/plain"), TYPE),
        (BODY.partition(b"--7d1f3b5a9c2e4608--")[0] + BODY, TYPE),  # a second file
        (BODY, TYPE + "; charset=punycode"),
        (multipart(b"p", {f"field{number}": "" for number in range(65)})[0], TYPE),
    ],
)
def test_what_is_no_such_form_is_refused(body, media_type):
    with pytest.raises(Problem) as problem:
        read_form(media_type, body)
    assert problem.value.status == 400
    assert problem.value.detail.startswith("expected a multipart/form-data body with one file, found: ")


HEAD = BODY[: BODY.index(b"p\r\n")]
DELIMITER = b"\r\n--7d1f3b5a9c2e4608"
SIZE_BYTES = 16 << 20


@pytest.mark.parametrize(
    ("content_type", "body", "found"),
    [
        (TYPE, (HEAD + DELIMITER).ljust(SIZE_BYTES), "more than 64 spaces after a boundary"),
        (TYPE, HEAD + DELIMITER + b"\t" * SIZE_BYTES, "more than 64 spaces after a boundary"),
        (TYPE, HEAD + (DELIMITER + b"X") * (SIZE_BYTES // 21), "more than 130 boundaries"),
        (TYPE, HEAD + (DELIMITER + b" \r\n\r\n") * (SIZE_BYTES // 25), "more than 130 boundaries"),
        ("multipart/form-data; boundary=a", b"--a\r\n" + (b"\r\n--a".ljust(SIZE_BYTES)), "more than 64 spaces"),
        ("multipart/form-data; boundary=a", b"--a\r\n" + b"\r\n--aX" * (SIZE_BYTES // 6), "more than 130 boundaries"),
        ("multipart/form-data; boundary=", b"--" * (SIZE_BYTES // 2), "more than 130 boundaries"),
    ],
    ids=["spaces", "tabs", "near-boundaries", "empty parts", "a short one, spaces", "short ones", "empty ones"],
)
def test_what_takes_the_parser_seconds_is_refused_at_once(content_type, body, found):
    started_s = time.thread_time()
    with pytest.raises(Problem, match=found) as problem:
        read_form(content_type, body)
    assert problem.value.status == 400
    assert time.thread_time() - started_s < 0.5


@pytest.mark.parametrize("charset", ["utf-8", '"UTF-8"'])
def test_a_form_may_name_its_charset(charset):
    body, media_type = multipart(b"p", {"where": "a=\u00e9"})
    assert read_form(f"{media_type}; charset={charset}", body) == ({"where": ["a=\u00e9"]}, b"p")


def test_a_few_spaces_after_a_boundary_are_read_over():
    body, media_type = multipart(b"p", {"k": "3"})
    assert read_form(media_type, body.replace(b"\r\n--7d1f3b5a9c2e4608\r\n", DELIMITER + b" \t\r\n")) == (
        {"k": ["3"]},
        b"p",
    )


def test_while_a_form_is_read_the_loop_goes_on_and_one_too_many_is_told_to_come_back(monkeypatch):
    go = threading.Event()

    def hold(content_type: str, body: bytes) -> Form:
        assert go.wait(120)
        return read_form(content_type, body)

    monkeypatch.setattr(uploads, "read_form", hold)

    async def test() -> None:
        forms, before = Forms(max_waiting=1), refused()
        try:
            reading = [asyncio.ensure_future(forms.read(TYPE, BODY))]
            await asyncio.sleep(0)
            while forms._reading.waiting:  # until it is being read
                await asyncio.sleep(0)
            reading.append(asyncio.ensure_future(forms.read(TYPE, BODY)))
            await asyncio.sleep(0)
            with pytest.raises(Problem, match="too many forms are being read") as problem:
                await forms.read(TYPE, BODY)
            assert (problem.value.status, refused()) == (503, before + 1)
            go.set()
            assert await asyncio.gather(*reading) == [({"k": ["3"]}, b"p")] * 2
        finally:
            go.set()
            forms.close()

    asyncio.run(asyncio.wait_for(test(), 30))
