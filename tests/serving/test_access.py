"""What every request passes through, whatever the application does with it."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import REGISTRY

from serving.access import Access
from serving.logs import LOG
from tests.support.access import POLICY, answering, count, logged, run_request


@pytest.fixture(autouse=True)
def info() -> Iterator[None]:
    level = LOG.level
    LOG.setLevel(logging.INFO)
    yield
    LOG.setLevel(level)


@pytest.mark.parametrize("given", ["a", "7f-3.b_X", "z" * 64])
def test_a_sane_id_comes_back(given):
    assert run_request(answering(200), headers=[("x-request-id", given)]).headers["x-request-id"] == given


@pytest.mark.parametrize(
    "given", ["", "z" * 65, "a b", 'a"b', "a\nb", "a/b", "\xe9", "\u0660".encode().decode("latin-1")]
)
def test_any_other_id_is_replaced(given):
    found = run_request(answering(200), headers=[("x-request-id", given)]).headers["x-request-id"]
    assert re.fullmatch("[0-9a-f]{32}", found)


def test_every_request_has_an_id_of_its_own():
    assert len({run_request(answering(200)).headers["x-request-id"] for _ in range(20)}) == 20


@pytest.mark.parametrize("status", [200, 304, 404, 405, 500, 503])
def test_every_answer_has_the_headers(status):
    headers = run_request(answering(status)).headers
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
    headers = run_request(answering(200, b"", (b"cache-control", b"private, max-age=300"))).headers
    assert headers["cache-control"] == "private, max-age=300"


def test_the_application_knows_the_id():
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["state"]["request_id"] == "mine"
        await answering(204)(scope, receive, send)

    assert run_request(app, headers=[("x-request-id", "mine")]).status == 204


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

    run_request(
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
    run_request(answering(200, path=path), "GET", path)
    assert logged(capsys) == []
    assert count("requests_total", route=path, method="GET", status="200") == before + 1
    run_request(answering(503, path=path), "GET", path)
    assert [line["status"] for line in logged(capsys)] == [503]


def test_no_path_and_no_method_of_a_client_becomes_a_label(capsys):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 404})
        await send({"type": "http.response.body"})

    before = count("requests_total", route="unmatched", method="other", status="404")
    timed = count("request_duration_seconds_count", route="unmatched")
    for number in range(5):
        run_request(app, f"BREW{number}", f"/tea/{number}")
    assert count("requests_total", route="unmatched", method="other", status="404") == before + 5
    assert count("request_duration_seconds_count", route="unmatched") == timed + 5
    assert {line["route"] for line in logged(capsys)} == {"unmatched"}
    labels = [sample.labels for metric in REGISTRY.collect() for sample in metric.samples]
    assert not [label for label in labels if "BREW" in str(label) or "/tea" in str(label)]


def test_what_nobody_expected_is_logged_under_the_id_and_ends_nothing(caplog):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 500})
        await send({"type": "http.response.body"})
        raise ZeroDivisionError("nobody expected that")

    handler = caplog.handler
    LOG.addHandler(handler)
    try:
        assert run_request(app, headers=[("x-request-id", "mine")]).status == 500
    finally:
        LOG.removeHandler(handler)
    record = next(record for record in caplog.records if record.getMessage() == "failed")
    assert vars(record)["request_id"] == "mine"
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError
