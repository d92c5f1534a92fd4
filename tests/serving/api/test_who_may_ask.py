"""Keys, and pages of other origins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from serving.service import Service
from tests.support.api_answers import options_of, problem_of
from tests.support.serving import (
    ODD_ID,
    Answer,
    Client,
    Running,
    ServedStore,
    multipart,
    query_picture,
    query_vector,
    running,
)

KEYED = ("/v1/index", "/v1/attributes", "/v1/images/both-4", "/v1/images/both-4/thumbnail", "/v1/items/sku-3/similar")
OPEN = ("/healthz", "/readyz", "/openapi.json", "/", "/page.js", "/page.css")


def test_keys_protect_the_api_and_the_metrics_and_nothing_else(served_store):
    with running(options_of(served_store, api_keys=("one", "two"))) as server, Client(server.port) as client:
        for headers in ({}, {"Authorization": "Bearer three"}, {"X-API-Key": "three"}):
            answers = [client.ask("GET", path, headers=headers) for path in (*KEYED, "/metrics")]
            answers += [client.ask("POST", path, {}, headers) for path in ("/v1/search", "/v1/reload")]
            for answer in answers:
                assert problem_of(answer, 401).startswith("expected an API key")
                assert answer.headers["www-authenticate"] == "Bearer"
            for path in OPEN:
                assert client.ask("GET", path, headers=headers).status == 200
        for headers in ({"Authorization": "Bearer one"}, {"X-API-Key": "two"}):
            for path in (*KEYED, "/metrics"):
                assert client.ask("GET", path, headers=headers).status == 200
            assert client.ask("POST", "/v1/search", {"item_id": "sku-3"}, headers).status == 200
            assert client.ask("POST", "/v1/reload", headers=headers).status == 200


def test_without_keys_nothing_is_protected(client):
    for path in (*KEYED, *OPEN, "/metrics"):
        assert client.ask("GET", path).status == 200, path


ORIGIN = "https://shop.example"


def test_by_default_no_other_page_may_call_it(client):
    answer = client.ask("GET", "/v1/index", headers={"Origin": ORIGIN})
    assert not [name for name in answer.headers if name.startswith("access-control")]
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    preflight = client.ask("OPTIONS", "/v1/search", headers=asked)
    assert preflight.status == 405
    assert not [name for name in preflight.headers if name.startswith("access-control")]


@pytest.fixture(scope="module")
def cors(served_store: ServedStore) -> Iterator[Running]:
    """A server whose searches go through the whole framework."""
    with running(options_of(served_store, cors_origins=(ORIGIN,))) as server:
        yield server


def test_pages_of_the_given_origins_may_call_it(cors):
    with Client(cors.port) as client:
        asked = {
            "Origin": ORIGIN,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type, x-api-key",
        }
        preflight = client.ask("OPTIONS", "/v1/search", headers=asked)
        assert (preflight.status, preflight.headers["access-control-allow-origin"]) == (200, ORIGIN)
        assert "POST" in preflight.headers["access-control-allow-methods"]
        assert client.ask("OPTIONS", "/v1/search", headers={**asked, "Origin": "https://evil.example"}).status == 400
        for answer in (
            client.ask("POST", "/v1/search", {"vector": query_vector()}, {"Origin": ORIGIN}),
            client.ask("POST", "/v1/search", {"vector": []}, {"Origin": ORIGIN}),
            client.ask("GET", "/v1/images/both-4/thumbnail", headers={"Origin": ORIGIN}),
        ):
            assert answer.headers["access-control-allow-origin"] == ORIGIN
            assert "Picture-Width" in answer.headers["access-control-expose-headers"]
        other = client.ask("GET", "/v1/index", headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers


def check_headers(by: Answer, full: Answer) -> None:
    """The same, but for what CORS adds."""
    assert {**by.headers, "date": "", "vary": "Origin"} == {**full.headers, "date": ""}


def test_searches_that_pass_the_framework_by_answer_as_those_that_go_through_it(client, cors, monkeypatch):
    form, form_type = multipart(query_picture(), {"k": "3"})
    requests: list[tuple[str, Any, dict[str, str]]] = [
        ("?k=3", query_picture(), {"Content-Type": "image/jpeg"}),
        ("", form, {"Content-Type": form_type}),
        ("", {"vector": query_vector(), "k": 2}, {}),
        ("?k=2", {"image_id": ODD_ID}, {"Content-Type": "application/json; charset=utf-8"}),
        ("?k=0", {"image_id": ODD_ID}, {}),
        ("", {"image_id": "no-such"}, {}),
        ("", b"{", {"Content-Type": "application/json"}),
        ("", b"", {}),
        ("", b"x", {"Content-Type": "text/plain"}),
        ("", b"x", {"Content-Type": "image/png"}),
        ("", form[:50], {"Content-Type": form_type}),
    ]
    with Client(cors.port) as through:
        for query, body, given in requests:
            headers = {"X-Request-Id": "mine", **given}
            by, full = (one.ask("POST", f"/v1/search{query}", body, headers) for one in (client, through))
            assert (by.status, by.body) == (full.status, full.body)
            check_headers(by, full)
        labels = 'shelfmark_requests_total{method="POST",route="/v1/search",status="415"}'
        before = client.metric(labels)
        for one in (client, through):
            one.ask("POST", "/v1/search", b"", {})
        assert client.metric(labels) == before + 2

        async def fail(*_: Any) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(Service, "search", fail)
        headers = {"X-Request-Id": "mine"}
        by, full = (one.ask("POST", "/v1/search", {"item_id": ODD_ID}, headers) for one in (client, through))
        assert (by.status, by.body) == (full.status, full.body)
        check_headers(by, full)
