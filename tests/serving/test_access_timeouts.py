"""What becomes of a request that takes too long, or whose client leaves."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from serving import access
from serving.logs import LOG
from tests.support.access import POLICY, Message, Sent, answering, call, count, logged, run_request


@pytest.fixture(autouse=True)
def info() -> Iterator[None]:
    level = LOG.level
    LOG.setLevel(logging.INFO)
    yield
    LOG.setLevel(level)


async def read_all(receive: Any) -> None:
    while (await receive()).get("more_body"):
        pass


async def never_answers(scope: Any, receive: Any, send: Any) -> None:
    await read_all(receive)
    await asyncio.Event().wait()


def problem_of(sent: Sent) -> dict[str, Any]:
    assert sent.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = json.loads(sent.body)
    assert document.pop("request_id") == sent.headers["x-request-id"]
    return document


def test_a_body_that_does_not_come_in_time_ends_with_408(capsys):
    sent = run_request(never_answers, "POST", "/v1/search", headers=[("content-length", "2")], body=[], timeout_s=0.02)
    assert problem_of(sent) == {
        "type": "about:blank",
        "title": "Request Timeout",
        "status": 408,
        "detail": "expected the whole request within 0.02 s",
    }
    assert sent.headers["connection"] == "close"
    assert sent.headers["content-security-policy"] == POLICY
    (line,) = logged(capsys)
    assert (line["status"], line["duration_ms"] >= 20, line["bytes_out"]) == (408, True, len(sent.body))


def test_an_answer_that_does_not_come_in_time_ends_with_503():
    sent = run_request(never_answers, "POST", "/v1/search", body=[b"a", b"b"], timeout_s=0.02)
    assert (sent.status, sent.headers["retry-after"]) == (503, "2")
    assert problem_of(sent)["detail"] == "busy: the request took longer than 0.02 s; try again in 2 s"
    assert "connection" not in sent.headers


def test_an_answer_that_has_begun_is_not_begun_again(capsys):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await asyncio.Event().wait()

    sent = run_request(app, timeout_s=0.02)
    assert [message["type"] for message in sent.messages] == ["http.response.start"]
    assert [line["status"] for line in logged(capsys)] == [200]


def test_a_client_that_does_not_read_the_last_words_holds_nothing(monkeypatch):
    monkeypatch.setattr(access, "_LAST_WORDS_S", 0.02)

    class Stuck(Sent):
        async def send(self, message: Message) -> None:
            await asyncio.Event().wait()

    before = count("requests_in_flight")

    async def test() -> None:
        await call(never_answers, timeout_s=0.02, sent=Stuck())

    asyncio.run(test())
    assert count("requests_in_flight") == before


def test_a_reload_takes_as_long_as_it_takes():
    async def app(scope: Any, receive: Any, send: Any) -> None:
        with pytest.raises(asyncio.TimeoutError):  # much later than the limit
            await asyncio.wait_for(asyncio.Event().wait(), 0.05)
        await answering(200)(scope, receive, send)

    assert run_request(app, "POST", "/v1/reload", timeout_s=0.001).status == 200
    assert run_request(app, "POST", "/v1/search", timeout_s=0.001).status == 503


def test_a_client_that_leaves_is_no_timeout(capsys):
    before = count("requests_in_flight")

    async def test() -> None:
        sent = Sent()
        asking = asyncio.ensure_future(call(never_answers, sent=sent))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert count("requests_in_flight") == before + 1
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert sent.messages == []

    asyncio.run(test())
    assert count("requests_in_flight") == before
    assert [line["status"] for line in logged(capsys)] == [499]
