"""Bodies: limited one by one and all together, whatever becomes of the request."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from fastapi import Request
from prometheus_client import REGISTRY

from serving.problem import Problem
from serving.uploads import Upload, UploadBudget, read_form
from tests.support.serving import multipart


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


def test_a_body_that_goes_on_for_too_long_is_given_up():
    budget = UploadBudget(100)
    with pytest.raises(Problem) as problem, Upload(request([b"12345", b"12345", b"1"]), 10, budget) as upload:
        asyncio.run(upload.read())
    assert (problem.value.status, problem.value.detail) == (413, "expected a body of at most 10 bytes, found more")
    assert budget.held_bytes == 0


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


def form(body: bytes, media_type: str) -> tuple[dict[str, list[str]], bytes | None]:
    return asyncio.run(read_form(request([], media_type), body))


def test_a_form_has_fields_and_a_file():
    body, media_type = multipart(b"\x00picture\r\n", {"k": "3", "where": "a=\u00e9"})
    assert form(body, media_type) == ({"k": ["3"], "where": ["a=\u00e9"]}, b"\x00picture\r\n")


def test_a_field_may_come_more_than_once():
    body, media_type = multipart(b"p", {"where": "a=b", "WHERE": "c=d"})
    assert form(body.replace(b"WHERE", b"where"), media_type)[0] == {"where": ["a=b", "c=d"]}


def test_a_form_may_lack_the_file():
    body, media_type = multipart(b"text", {})
    assert form(body.replace(b'; filename="a.jpg"', b""), media_type) == ({"image": ["text"]}, None)


def test_a_large_file_stays_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    picture = bytes(3 << 20)
    body, media_type = multipart(picture)
    assert form(body, media_type)[1] == picture


def test_a_file_of_another_name_is_refused():
    body, media_type = multipart(b"p", name="picture")
    with pytest.raises(Problem) as problem:
        form(body, media_type)
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
        (multipart(b"p", {f"field{number}": "" for number in range(65)})[0], TYPE),
    ],
)
def test_what_is_no_such_form_is_refused(body, media_type):
    with pytest.raises(Problem) as problem:
        form(body, media_type)
    assert problem.value.status == 400
    assert problem.value.detail.startswith("expected a multipart/form-data body with one file, found: ")
