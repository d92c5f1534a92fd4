"""What every request passes through, whatever the application does with it."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import types
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from typing import Any

import pytest
from prometheus_client import REGISTRY

from serving import access
from serving.access import Access
from serving.logs import LOG

Message = MutableMapping[str, Any]
App = Callable[[Any, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
LONG_S = 120.0


@pytest.fixture(autouse=True)
def info() -> Iterator[None]:
    level = LOG.level
    LOG.setLevel(logging.INFO)
    yield
    LOG.setLevel(level)


class Sent:
    """What went out to the client."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.begun = asyncio.Event()

    async def send(self, message: Message) -> None:
        self.messages.append(message)
        self.begun.set()

    @property
    def status(self) -> int:
        (start,) = [message for message in self.messages if message["type"] == "http.response.start"]
        return int(start["status"])

    @property
    def headers(self) -> dict[str, str]:
        pairs = [(name.decode(), value.decode()) for name, value in self.messages[0]["headers"]]
        assert len(pairs) == len(dict(pairs)), "a header is there twice"
        return dict(pairs)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)


async def call(
    app: App,
    method: str = "GET",
    path: str = "/v1/index",
    *,
    headers: Sequence[tuple[str, str]] = (),
    body: Sequence[bytes] = (b"",),
    timeout_s: float = LONG_S,
    sent: Sent | None = None,
) -> Sent:
    """One request; a body without parts never comes."""
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
    }
    waiting = list(body)
    sent = sent or Sent()

    async def receive() -> Message:
        if not waiting:
            await asyncio.Event().wait()
        part = waiting.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(waiting)}

    await asyncio.wait_for(Access(app, timeout_s)(scope, receive, sent.send), 2 * LONG_S)
    return sent


def run(app: App, *arguments: Any, **options: Any) -> Sent:
    return asyncio.run(call(app, *arguments, **options))


def answering(status: int, body: bytes = b"answer", *headers: tuple[bytes, bytes], path: str = "/v1/index") -> App:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["route"] = types.SimpleNamespace(path_format=path)
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        await send({"type": "http.response.body", "body": body})

    return app


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]


def count(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"shelfmark_{name}", labels) or 0.0


@pytest.mark.parametrize("given", ["a", "7f-3.b_X", "z" * 64])
def test_a_sane_id_comes_back(given):
    assert run(answering(200), headers=[("x-request-id", given)]).headers["x-request-id"] == given


@pytest.mark.parametrize(
    "given", ["", "z" * 65, "a b", 'a"b', "a\nb", "a/b", "\xe9", "\u0660".encode().decode("latin-1")]
)
def test_any_other_id_is_replaced(given):
    found = run(answering(200), headers=[("x-request-id", given)]).headers["x-request-id"]
    assert re.fullmatch("[0-9a-f]{32}", found)


def test_every_request_has_an_id_of_its_own():
    assert len({run(answering(200)).headers["x-request-id"] for _ in range(20)}) == 20


@pytest.mark.parametrize("status", [200, 304, 404, 405, 500, 503])
def test_every_answer_has_the_headers(status):
    headers = run(answering(status)).headers
    headers.pop("x-request-id")
    assert headers == {
        "content-security-policy": POLICY,
        "cross-origin-opener-policy": "same-origin",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "cache-control": "no-store",
    }


def test_an_answer_that_may_be_kept_stays_one_that_may_be_kept():
    headers = run(answering(200, b"", (b"cache-control", b"private, max-age=300"))).headers
    assert headers["cache-control"] == "private, max-age=300"


def test_the_application_knows_the_id():
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["state"]["request_id"] == "mine"
        await answering(204)(scope, receive, send)

    assert run(app, headers=[("x-request-id", "mine")]).status == 204


def test_what_is_no_request_goes_through():
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    asyncio.run(Access(app, 1)({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    assert seen == ["lifespan"]


def test_one_line_is_logged_with_these_fields_and_no_others(capsys):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["state"]["bytes_in"] = 12
        await answering(200, b"12345", path="/v1/images/{image_id:path}")(scope, receive, send)

    run(
        app,
        "GET",
        "/v1/images/a-secret-id",
        headers=[("x-request-id", "mine"), ("authorization", "Bearer secret"), ("x-api-key", "secret")],
        body=[b"secret picture"],
    )
    output = capsys.readouterr()
    assert output.out == ""
    assert "secret" not in output.err
    line = json.loads(output.err)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert 0 <= line.pop("duration_ms") < 60_000
    assert line == {
        "level": "info",
        "event": "request",
        "request_id": "mine",
        "method": "GET",
        "route": "/v1/images/{image_id:path}",
        "status": 200,
        "bytes_in": 12,
        "bytes_out": 5,
    }


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_probes_are_counted_and_logged_only_when_they_fail(capsys, path):
    before = count("requests_total", route=path, method="GET", status="200")
    run(answering(200, path=path), "GET", path)
    assert lines(capsys) == []
    assert count("requests_total", route=path, method="GET", status="200") == before + 1
    run(answering(503, path=path), "GET", path)
    assert [line["status"] for line in lines(capsys)] == [503]


def test_no_path_and_no_method_of_a_client_becomes_a_label(capsys):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 404})
        await send({"type": "http.response.body"})

    before = count("requests_total", route="unmatched", method="other", status="404")
    timed = count("request_duration_seconds_count", route="unmatched")
    for number in range(5):
        run(app, f"BREW{number}", f"/tea/{number}")
    assert count("requests_total", route="unmatched", method="other", status="404") == before + 5
    assert count("request_duration_seconds_count", route="unmatched") == timed + 5
    assert {line["route"] for line in lines(capsys)} == {"unmatched"}
    labels = [sample.labels for metric in REGISTRY.collect() for sample in metric.samples]
    assert not [label for label in labels if "BREW" in str(label) or "/tea" in str(label)]


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
    sent = run(never_answers, "POST", "/v1/search", headers=[("content-length", "2")], body=[], timeout_s=0.02)
    assert problem_of(sent) == {
        "type": "about:blank",
        "title": "Request Timeout",
        "status": 408,
        "detail": "expected the whole request within 0.02 s",
    }
    assert sent.headers["connection"] == "close"
    assert sent.headers["content-security-policy"] == POLICY
    (line,) = lines(capsys)
    assert (line["status"], line["duration_ms"] >= 20, line["bytes_out"]) == (408, True, len(sent.body))


def test_an_answer_that_does_not_come_in_time_ends_with_503():
    sent = run(never_answers, "POST", "/v1/search", body=[b"a", b"b"], timeout_s=0.02)
    assert (sent.status, sent.headers["retry-after"]) == (503, "2")
    assert problem_of(sent)["detail"] == "busy: the request took longer than 0.02 s; try again in 2 s"
    assert "connection" not in sent.headers


def test_an_answer_that_has_begun_is_not_begun_again(capsys):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await asyncio.Event().wait()

    sent = run(app, timeout_s=0.02)
    assert [message["type"] for message in sent.messages] == ["http.response.start"]
    assert [line["status"] for line in lines(capsys)] == [200]


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

    assert run(app, "POST", "/v1/reload", timeout_s=0.001).status == 200
    assert run(app, "POST", "/v1/search", timeout_s=0.001).status == 503


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
    assert [line["status"] for line in lines(capsys)] == [499]


def test_what_nobody_expected_is_logged_under_the_id_and_ends_nothing(caplog):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 500})
        await send({"type": "http.response.body"})
        raise ZeroDivisionError("nobody expected that")

    handler = caplog.handler
    LOG.addHandler(handler)
    try:
        assert run(app, headers=[("x-request-id", "mine")]).status == 500
    finally:
        LOG.removeHandler(handler)
    record = next(record for record in caplog.records if record.getMessage() == "failed")
    assert vars(record)["request_id"] == "mine"
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError
