"""What whoever runs the server asks for and reads: probes, reloads, errors, the log, the counters."""

from __future__ import annotations

import errno
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

from index_builder.build.builder import build_index
from index_builder.build.request import BuildRequest
from serving.logs import LOG
from store.index import version_folder
from store.location import Store
from tests.support.api_answers import options_of, problem_of
from tests.support.serving import Client, query_picture, query_vector, running


def test_probes(client, served_store):
    assert client.ask("GET", "/healthz").json == {"status": "ok"}
    ready = {"status": "ready", "version": served_store.versions[-1], "refused": None}
    assert client.ask("GET", "/readyz").json == ready


def test_a_reload_follows_current_and_says_why_not(served_store, tmp_path):
    store = str(tmp_path / "store")
    shutil.copytree(served_store.uri, store)
    first = served_store.versions[-1]
    with running(options_of(store)) as server, Client(server.port) as client:
        assert client.ask("POST", "/v1/reload").json == {"version": first, "changed": False}
        second = build_index(Store(store), BuildRequest(k=3, target_recall=0.5)).version
        assert client.ask("GET", "/readyz").json["version"] == first
        assert client.ask("POST", "/v1/reload").json == {"version": second, "changed": True}
        assert client.search({"vector": query_vector()}).json["version"] == second

        third = build_index(Store(store), BuildRequest(k=3, target_recall=0.5)).version
        for path in Path(store, version_folder(third)).rglob("rows.arrow"):
            path.write_bytes(b"damaged")
        assert problem_of(client.ask("POST", "/v1/reload"), 409).startswith(f"version {third} was refused: ")
        ready = client.ask("GET", "/readyz")
        assert (ready.status, ready.json["version"], ready.json["refused"]["version"]) == (200, second, third)
        assert client.search({"vector": query_vector()}).json["version"] == second
        assert client.metric("shelfmark_version_refused") == 1

        Path(store, "indexes", "CURRENT").unlink()
        assert problem_of(client.ask("POST", "/v1/reload"), 409).startswith("version ? was refused: ")


@pytest.mark.parametrize(
    ("method", "path", "status", "detail"),
    [
        ("GET", "/", 200, ""),
        ("GET", "/no-such-path", 404, "GET /no-such-path: Not Found; GET /openapi.json has what there is"),
        ("GET", "/v1/", 404, "GET /v1/: Not Found; GET /openapi.json has what there is"),
        ("GET", "/docs", 404, "GET /docs: Not Found; GET /openapi.json has what there is"),
        ("GET", "/v1/search", 405, "GET /v1/search: Method Not Allowed; GET /openapi.json has what there is"),
        ("DELETE", "/v1/index", 405, "DELETE /v1/index: Method Not Allowed; GET /openapi.json has what there is"),
    ],
)
def test_paths_that_are_not_there_and_methods_that_are_not_theirs(client, method, path, status, detail):
    answer = client.ask(method, path)
    if status == 200:
        assert answer.status == 200
    else:
        assert problem_of(answer, status) == detail
    if status == 405:
        assert answer.headers["allow"] in ("GET", "POST")


def test_bodies_of_no_kind_or_of_another(client):
    expected = "expected application/json, multipart/form-data, image/* or application/octet-stream, found"
    assert problem_of(client.ask("POST", "/v1/search", b"a", {"Content-Type": "text/plain"}), 415) == (
        f"Content-Type: {expected} text/plain"
    )
    assert problem_of(client.ask("POST", "/v1/search", b"a"), 415) == f"Content-Type: {expected} none"
    assert problem_of(client.search(b"{", media_type="application/json"), 400).startswith("expected a JSON document")
    answer = client.search(b"no picture")
    assert problem_of(answer, 422).startswith("image: ")
    assert answer.json["reason"] == "not_an_image"


def test_a_body_may_be_so_large(served_store):
    with running(options_of(served_store, max_upload_bytes=5000)) as server, Client(server.port) as client:
        assert (
            problem_of(client.search(bytes(5001)), 413) == "expected a body of at most 5,000 bytes, found 5,001 bytes"
        )
        assert problem_of(client.search(bytes(5000)), 422).startswith("image: ")
        assert client.ask("GET", "/v1/index").json["limits"]["upload_bytes"] == 5000


def test_what_nobody_expected_is_500_with_an_id_and_nothing_of_the_inside(client, server, monkeypatch):
    async def fail(*_: Any) -> None:
        raise ZeroDivisionError("of the inside")

    monkeypatch.setattr(server.service, "find_row", fail)
    answer = client.ask("GET", "/v1/images/both-4", headers={"X-Request-Id": "mine"})
    assert problem_of(answer, 500) == "an error on the server's side; its log has more under this request_id"
    assert answer.headers["x-request-id"] == "mine"
    assert b"inside" not in answer.body
    monkeypatch.setattr(server.service, "search", fail)
    answer = client.search({"vector": query_vector()}, "")
    assert problem_of(answer, 500) == "an error on the server's side; its log has more under this request_id"
    monkeypatch.undo()
    assert client.search({"vector": query_vector()}).status == 200


def test_a_server_that_runs_short_says_that_it_is_busy(client, server, monkeypatch):
    async def fail(*_: Any) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(server.service, "find_row", fail)
    answer = client.ask("GET", "/v1/images/both-4")
    assert problem_of(answer, 503) == "busy: the server has run short of file descriptors; try again in 5 s"
    assert answer.headers["retry-after"] == "5"


def test_neither_ids_nor_vectors_nor_keys_are_in_the_log(served_store, capsys, monkeypatch):
    level = LOG.level
    with running(options_of(served_store, api_keys=("very-secret",))) as server, Client(server.port) as client:
        LOG.setLevel(logging.INFO)
        try:
            capsys.readouterr()
            key = {"X-API-Key": "very-secret", "X-Request-Id": "mine"}
            client.ask("POST", "/v1/search", {"vector": [0.123456789] * 16}, key)
            client.ask("GET", "/v1/images/both-4/thumbnail", headers=key)
            client.ask("GET", "/no/such/both-4", headers=key)
            client.ask("GET", "/openapi.json")
            client.ask("GET", "/healthz")
        finally:
            LOG.setLevel(level)
    text = capsys.readouterr().err
    found = [json.loads(line) for line in text.splitlines() if '"request"' in line]
    assert [(line["route"], line["status"]) for line in found[:3]] == [
        ("/v1/search", 200),
        ("/v1/images/{image_id}/thumbnail", 200),
        ("unmatched", 404),
    ]
    assert not [word for word in ("both-4", "0.123456789", "very-secret") if word in text]
    assert found[0]["bytes_in"] > 100
    assert found[1]["bytes_out"] > 100


def test_the_page_is_not_sent_again_where_it_is_known(client):
    for path, media_type in (("/", "text/html"), ("/page.js", "text/javascript"), ("/page.css", "text/css")):
        answer = client.ask("GET", path)
        assert (answer.status, answer.headers["content-type"].partition(";")[0]) == (200, media_type)
        assert answer.headers["cache-control"] == "no-cache"
        again = client.ask("GET", path, headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status, again.body) == (304, b"")


def test_what_happens_is_counted(client):
    names = (
        'shelfmark_requests_total{method="POST",route="/v1/search",status="200"}',
        "shelfmark_batch_queries_sum",
        "shelfmark_batch_pictures_sum",
        'shelfmark_thumbnails_total{outcome="hit"}',
    )
    client.ask("GET", "/v1/images/both-4/thumbnail")
    client.search({"vector": query_vector()})
    before = [client.metric(name) for name in names]
    client.search({"vectors": [query_vector()] * 3})
    client.search(query_picture())
    client.ask("GET", "/v1/images/both-4/thumbnail")
    assert [client.metric(name) for name in names] == [
        value + more for value, more in zip(before, (2, 4, 1, 1), strict=True)
    ]
    assert client.ask("GET", "/metrics").headers["content-type"].startswith("text/plain")
