"""Every call of the API against brute force over the snapshot, through a real server."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import errno
import io
import json
import logging
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from encoder.decode import Box, DecodeOptions, decode_picture
from index_builder.build.build_index import IndexRequest, build_index
from pipelines.serve import open_sources
from serving.logs import LOG
from serving.options import ServeOptions
from serving.service import Service
from store.index import read_index_manifest, version_folder
from store.location import Store
from store.rejects import Reason, Rejected
from store.snapshot import read_manifest
from tests.support.fakes import FakeEncoder, FakeEncoderSource
from tests.support.hostile import encoded, photo
from tests.support.serving import (
    EDITION,
    ITEMS,
    ODD_ID,
    VIEWS,
    Answer,
    Client,
    Running,
    ServedStore,
    multipart,
    query_picture,
    query_vector,
    quoted,
    running,
)
from tests.support.small_embed import rows_of

ROWS = ITEMS * VIEWS
Rows = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def rows(served_store: ServedStore) -> Rows:
    """image_id -> row of the snapshot, its attributes as a dictionary."""
    snapshot = read_index_manifest(Store(served_store.uri), served_store.versions[-1]).snapshot
    found = rows_of(Path(served_store.uri), read_manifest(Store(served_store.uri), snapshot))
    return {name: {**row, "attributes": dict(row["attributes"])} for name, row in found.items()}


def options_of(store: ServedStore | str, **more: Any) -> ServeOptions:
    uri = store if isinstance(store, str) else store.uri
    return ServeOptions(uri, poll_interval_s=3600, threads=2, **more)


def nearest(
    rows: Rows,
    query: npt.ArrayLike,
    k: int,
    without: Collection[str] = (),
    where: Mapping[str, str] | None = None,
    group_by_item: bool = False,
) -> list[tuple[str, float]]:
    """Exact search in float64: image_ids and cosines, best first."""
    vector = np.asarray(query, np.float64)
    found = [
        (name, float(np.dot(np.asarray(row["embedding"], np.float64), vector) / np.linalg.norm(vector)))
        for name, row in rows.items()
        if name not in without and (where or {}).items() <= row["attributes"].items()
    ]
    best: dict[str, tuple[str, float]] = {}
    for name, score in sorted(found, key=lambda pair: -pair[1]):
        best.setdefault(rows[name]["item_id"] if group_by_item else name, (name, score))
    return list(best.values())[:k]


def check(rows: Rows, hits: list[dict[str, Any]], expected: list[tuple[str, float]]) -> None:
    """Asserts that hits are those rows, spelled out in full."""
    assert [hit["image_id"] for hit in hits] == [name for name, _ in expected]
    np.testing.assert_allclose([hit["score"] for hit in hits], [score for _, score in expected], atol=2e-3)
    for hit in hits:
        assert hit["score"] == round(hit["score"], 6)
        row = rows[hit["image_id"]]
        assert {**hit, "score": 0} == {
            "score": 0,
            **{name: row[name] for name in ("item_id", "image_id", "image_uri", "attributes")},
        }


def embedding(data: bytes, crop: Box | None = None) -> npt.NDArray[np.float32]:
    """Of a picture, as the catalog's were made."""
    spec = FakeEncoderSource()._spec()
    picture = decode_picture(data, DecodeOptions(spec.image_size, resize=spec.resize), crop)
    (features,) = FakeEncoder().encode(picture.pixels[None])
    return features


def siblings(rows: Rows, image_id: str) -> set[str]:
    item_id = rows[image_id]["item_id"]
    return {name for name, row in rows.items() if row["item_id"] == item_id}


def hits_of(answer: Answer) -> list[dict[str, Any]]:
    assert answer.status == 200, answer.body
    (query,) = answer.json["queries"]
    hits: list[dict[str, Any]] = query["hits"]
    return hits


def problem_of(answer: Answer, status: int) -> str:
    """The detail of a problem document that is as it should be."""
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json"), answer.body
    document = answer.json
    assert (document["type"], document["status"]) == ("about:blank", status)
    assert document["title"]
    assert document["request_id"] == answer.headers["x-request-id"]
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    detail: str = document["detail"]
    return detail


def test_a_vector_finds_what_brute_force_finds(served_store, rows, client):
    vector = query_vector()
    answer = client.search({"vector": vector, "k": 5})
    assert answer.headers["content-type"] == "application/json"
    document = answer.json
    assert document.keys() == {"version", "snapshot", "queries"}
    assert document["version"] == served_store.versions[-1]
    assert document["snapshot"] == read_index_manifest(Store(served_store.uri), document["version"]).snapshot
    assert [query.keys() for query in document["queries"]] == [{"hits"}]
    check(rows, hits_of(answer), nearest(rows, vector, 5))


def test_ten_answers_are_given_where_nobody_says_how_many(rows, client):
    assert len(hits_of(client.search({"vector": query_vector()}))) == 10
    assert len(hits_of(client.search({"vector": query_vector(), "k": 1000}))) == ROWS
    assert len(client.ask("GET", f"/v1/items/{quoted(ODD_ID)}/similar?k=1000").json["hits"]) == ITEMS - 1


def test_vectors_are_answered_in_their_order_and_in_either_form(rows, client):
    vectors = [query_vector(seed) for seed in range(3)]
    text = base64.b64encode(np.asarray(vectors[1], "<f4").tobytes()).decode()
    document = client.search({"vectors": [vectors[0], text, vectors[2]], "k": 4}).json
    assert len(document["queries"]) == 3
    for query, vector in zip(document["queries"], vectors, strict=True):
        check(rows, query["hits"], nearest(rows, vector, 4))


def test_a_vector_of_any_length_is_searched_for_by_its_direction(rows, client):
    vector = np.asarray(query_vector())
    expected = nearest(rows, vector, 3)
    for scale in (1e-100, 1e-6, 1e30):
        check(rows, hits_of(client.search({"vector": (vector * scale).tolist(), "k": 3})), expected)


@pytest.mark.parametrize(
    ("document", "detail"),
    [
        ({"vector": [1.0] * 15}, "vector 0: expected 16 numbers, found 15"),
        ({"vectors": [[1.0] * 16, []]}, "vector 1: expected 16 numbers, found 0"),
        ({"vector": [0.0] * 16}, "vector 0: expected numbers of a finite length above 0, found 0.0"),
        ({"vector": [1e200] * 16}, "vector 0: expected numbers of a finite length above 0, found inf"),
        (
            {"vector": base64.b64encode(np.full(16, np.nan, "<f4").tobytes()).decode()},
            "vector 0: expected numbers of a finite length above 0, found nan",
        ),
        (
            {"vectors": [[1.0] * 16] * 11, "k": 1000},
            "expected at most 10,000 answers in all, found 1000 to 11 queries",
        ),
        (
            {"vector": [1.0] * 16, "crop": {"x": 0, "y": 0, "width": 1, "height": 1}},
            "crop: expected with a picture, found with vectors or an item_id",
        ),
        (
            {"item_id": ODD_ID, "crop": {"x": 0, "y": 0, "width": 1, "height": 1}},
            "crop: expected with a picture, found with vectors or an item_id",
        ),
        ({"item_id": ODD_ID, "where": {"size": "3"}}, "where: expected one of category, edition, found 'size'"),
    ],
)
def test_what_this_index_cannot_answer_is_said(client, document, detail):
    assert problem_of(client.search(document), 422) == detail


def test_a_picture_finds_the_same_however_it_is_sent(rows, client):
    picture = query_picture()
    expected = nearest(rows, embedding(picture), 4)
    form, form_type = multipart(picture, {"k": "4"})
    answers = [
        client.search(picture, "?k=4"),
        client.search(picture, "?k=4", "IMAGE/jpeg; q=1"),
        client.search(picture, "?k=4", "image/png"),  # what it is, its bytes say
        client.search(picture, "?k=4", "application/octet-stream"),
        client.search(form, "", form_type),
    ]
    for answer in answers:
        check(rows, hits_of(answer), expected)
        assert answer.json["queries"][0]["picture"] == {"width": 90, "height": 60}
        assert answer.body == answers[0].body


def test_pictures_of_the_catalog_find_themselves(rows, client, pictures, served_store):
    for data, path in zip(pictures[:6], served_store.pictures, strict=False):
        (hit,) = hits_of(client.search(data, "?k=1"))
        assert (hit["image_uri"], hit["score"]) == (path.name, pytest.approx(1.0, abs=2e-3))


def test_a_part_of_a_picture_finds_what_the_part_alone_would(rows, client):
    picture = photo(80, 60)
    cut = encoded(picture.crop((8, 4, 28, 54)), "PNG")
    alone = hits_of(client.search(cut, "?k=6"))
    check(rows, alone, nearest(rows, embedding(cut), 6))
    whole = encoded(picture, "PNG")
    form, form_type = multipart(whole, {"k": "6", "crop": "8,4,20,50"})
    for answer in (client.search(whole, "?k=6&crop=8,4,20,50"), client.search(form, "", form_type)):
        assert hits_of(answer) == alone
        assert answer.json["queries"][0]["picture"] == {"width": 80, "height": 60}
    assert hits_of(client.search(whole, "?k=6")) != alone
    detail = problem_of(client.search(whole, "?crop=80,0,5,5"), 422)
    assert detail.startswith("crop: expected ")


def test_a_row_is_no_answer_to_itself_but_its_siblings_are(rows, client):
    image_id = "both-4"
    hits = hits_of(client.search({"image_id": image_id, "k": ROWS}))
    check(rows, hits, nearest(rows, rows[image_id]["embedding"], ROWS, without={image_id}))
    hits = hits_of(client.search({"image_id": image_id, "k": ROWS, "group_by": "item"}))
    expected = nearest(rows, rows[image_id]["embedding"], ROWS, siblings(rows, image_id), group_by_item=True)
    assert len(expected) == ITEMS - 1
    check(rows, hits, expected)


def test_a_part_of_a_row_is_cut_out_of_the_catalogs_own_picture(rows, client, served_store):
    image_id = "both-2"
    data = Path(served_store.pictures[0]).with_name(rows[image_id]["image_uri"]).read_bytes()
    box = {"x": 0, "y": 0, "width": 40, "height": 30}
    answer = client.search({"image_id": image_id, "crop": box, "k": 7})
    check(rows, hits_of(answer), nearest(rows, embedding(data, Box(**box)), 7, without={image_id}))
    with Image.open(io.BytesIO(data)) as picture:
        assert answer.json["queries"][0]["picture"] == {"width": picture.width, "height": picture.height}


def test_an_item_is_the_mean_of_its_pictures(rows, client):
    own = siblings(rows, "both-6")
    mean = np.mean([rows[name]["embedding"] for name in own], axis=0)
    hits = hits_of(client.search({"item_id": "sku-2", "k": 9}))
    check(rows, hits, nearest(rows, mean, 9, without=own))


def test_answers_meet_every_condition_wherever_it_was_said(rows, client):
    vector = query_vector(5)
    where = {"category": "bag", EDITION: "one"}
    expected = nearest(rows, vector, 5, where=where)
    assert expected
    check(rows, hits_of(client.search({"vector": vector, "k": 5, "where": where})), expected)
    answer = client.ask("POST", "/v1/search?where=category=bag&k=5&where=edition%3Done", {"vector": vector})
    check(rows, hits_of(answer), expected)
    assert hits_of(client.search({"vector": vector, "where": {"category": "boat"}})) == []


def test_an_items_best_picture_stands_for_it(rows, client):
    vector = query_vector(6)
    hits = hits_of(client.search({"vector": vector, "k": 4, "group_by": "item"}))
    check(rows, hits, nearest(rows, vector, 4, group_by_item=True))


@pytest.mark.parametrize(
    ("document", "missing"), [({"image_id": "no-such"}, "no-such"), ({"item_id": "no/such"}, "no/such")]
)
def test_what_is_not_there_is_404(client, document, missing):
    assert missing in problem_of(client.search(document), 404)


def expected_similar(
    rows: Rows, item_id: str, k: int, where: Mapping[str, str] | None = None
) -> list[tuple[str, float]]:
    """The best score of each other item with any picture of this one."""
    own = [name for name, row in rows.items() if row["item_id"] == item_id]
    best: dict[str, tuple[str, float]] = {}
    for name in own:
        for found, score in nearest(rows, rows[name]["embedding"], ROWS, own, where):
            item = rows[found]["item_id"]
            if item not in best or score > best[item][1]:
                best[item] = (found, score)
    return sorted(best.values(), key=lambda pair: -pair[1])[:k]


@pytest.mark.parametrize("item_id", ["sku-3", ODD_ID])
def test_similar_items_are_those_with_a_picture_like_any_of_its_pictures(rows, client, item_id):
    answer = client.ask("GET", f"/v1/items/{quoted(item_id)}/similar?k=4")
    document = answer.json
    assert document.keys() == {"version", "snapshot", "item_id", "hits"}
    assert document["item_id"] == item_id
    check(rows, document["hits"], expected_similar(rows, item_id, 4))
    hits = client.ask("GET", f"/v1/items/{quoted(item_id)}/similar?where=category=hat").json["hits"]
    check(rows, hits, expected_similar(rows, item_id, 10, {"category": "hat"}))


def test_similar_items_take_only_their_own_options(client):
    path = f"/v1/items/{quoted(ODD_ID)}/similar"
    assert problem_of(client.ask("GET", f"{path}?group_by=item"), 422) == "expected one of k, where, found 'group_by'"
    assert problem_of(client.ask("GET", f"{path}?where=size=3"), 422).startswith("where: expected one of category")
    assert "no-such" in problem_of(client.ask("GET", "/v1/items/no-such/similar"), 404)


@pytest.mark.parametrize("path", [quoted(ODD_ID), quoted(ODD_ID).replace("%2F", "/"), "both-2", "%62oth-2"])
def test_an_id_may_hold_anything_however_it_is_escaped(rows, client, served_store, path):
    row = rows["both-2" if "oth" in path else ODD_ID]
    assert client.ask("GET", f"/v1/images/{path}").json == {
        "version": served_store.versions[-1],
        **{name: row[name] for name in ("image_id", "item_id", "image_uri", "attributes")},
    }
    assert client.ask("GET", f"/v1/images/{path}/thumbnail").status == 200


def test_ids_in_documents_may_hold_anything(rows, client):
    check(
        rows,
        hits_of(client.search({"image_id": ODD_ID, "k": 2})),
        nearest(rows, rows[ODD_ID]["embedding"], 2, {ODD_ID}),
    )


def test_a_thumbnail_keeps_the_shape_and_says_how_large_the_picture_is(client, rows, served_store):
    for size_px, path in ((160, ""), (160, "?size=160"), (320, "?size=320"), (640, "?size=640")):
        answer = client.ask("GET", f"/v1/images/{quoted(ODD_ID)}/thumbnail{path}")
        assert (answer.status, answer.headers["content-type"]) == (200, "image/jpeg")
        assert answer.headers["cache-control"] == "private, max-age=300"
        assert (answer.headers["picture-width"], answer.headers["picture-height"]) == ("96", "64")
        with Image.open(io.BytesIO(answer.body)) as small:
            assert small.format == "JPEG"
            assert small.size == (96, 64)
            assert max(small.size) <= size_px


def test_a_thumbnail_that_is_known_is_not_sent_again(client):
    path = "/v1/images/both-4/thumbnail"
    first = client.ask("GET", path)
    assert first.headers["etag"].startswith('"')
    again = client.ask("GET", path, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert "default-src 'none'" in again.headers["content-security-policy"]
    assert client.ask("GET", path, headers={"If-None-Match": '"another"'}).body == first.body


def test_a_thumbnail_that_cannot_be_had_is_404(client):
    assert "no-such" in problem_of(client.ask("GET", "/v1/images/no-such/thumbnail"), 404)
    detail = problem_of(client.ask("GET", "/v1/images/both-4/thumbnail?size=200"), 422)
    assert detail == "expected size=160|320|640, found size=200"


def test_the_index_says_what_it_is_and_what_may_be_asked(client, served_store):
    manifest = read_index_manifest(Store(served_store.uri), served_store.versions[-1])
    document = client.ask("GET", "/v1/index").json
    recall = document.pop("recall")
    assert document == {
        "version": manifest.version,
        "snapshot": manifest.snapshot,
        "created_at": manifest.created_at,
        "vectors": ROWS,
        "shards": len(manifest.shards),
        "kind": manifest.config.kind,
        "memory_bytes": manifest.memory_bytes,
        "encoder": manifest.encoder,
        "untrained": False,
        "pictures": True,
        "picture_urls": False,
        "limits": {"k": 1000, "vectors": 64, "upload_bytes": 16 << 20, "pixels": 64_000_000},
    }
    assert recall == {name: getattr(manifest.recall, name) for name in recall}
    assert {"k", "target", "measured"} <= recall.keys()


def test_attributes_have_their_values(client, served_store):
    document = client.ask("GET", "/v1/attributes").json
    assert document["version"] == served_store.versions[-1]
    found = {
        attribute["name"]: {value["value"]: value["rows"] for value in attribute["values"]}
        for attribute in document["attributes"]
    }
    assert found == {"category": {"shoe": 9, "bag": 9, "hat": 6}, EDITION: {"one": ROWS}}
    assert {attribute["name"]: attribute["distinct"] for attribute in document["attributes"]} == {
        "category": 3,
        EDITION: 1,
    }


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
        second = build_index(Store(store), IndexRequest(k=3, target_recall=0.5)).version
        assert client.ask("GET", "/readyz").json["version"] == first
        assert client.ask("POST", "/v1/reload").json == {"version": second, "changed": True}
        assert client.search({"vector": query_vector()}).json["version"] == second

        third = build_index(Store(store), IndexRequest(k=3, target_recall=0.5)).version
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


@contextlib.contextmanager
def fetching(store: ServedStore, found: bytes | Rejected) -> Iterator[tuple[Client, list[str]]]:
    """A server that takes URLs, all of which lead to the same."""
    asked: list[str] = []

    def fetch(url: str) -> bytes:
        asked.append(url)
        if isinstance(found, Rejected):
            raise found
        return found

    sources = dataclasses.replace(open_sources(store.uri, None, ()), fetch_url=fetch)
    with running(options_of(store), sources=sources) as server, Client(server.port) as client:
        yield client, asked


def test_a_url_is_fetched_and_embedded(served_store, rows):
    picture = query_picture()
    url = "https://images.example.com/a%20b.jpg?x=1"
    with fetching(served_store, picture) as (client, asked):
        assert client.ask("GET", "/v1/index").json["picture_urls"] is True
        answer = client.search({"image_url": url, "k": 4})
        check(rows, hits_of(answer), nearest(rows, embedding(picture), 4))
        assert answer.json["queries"][0]["picture"] == {"width": 90, "height": 60}
        crop = {"x": 5, "y": 5, "width": 20, "height": 30}
        cut = hits_of(client.search({"image_url": url, "k": 4, "crop": crop}))
        assert cut == hits_of(client.search(picture, "?k=4&crop=5,5,20,30"))
        assert asked == [url, url]
        assert client.metric('shelfmark_fetches_total{outcome="fetched"}') >= 2


@pytest.mark.parametrize(
    ("reason", "status"), [(Reason.NOT_FOUND, 404), (Reason.FORBIDDEN, 422), (Reason.TIMEOUT, 422)]
)
def test_a_url_that_leads_nowhere_is_said(served_store, reason, status):
    with fetching(served_store, Rejected(reason, "expected a picture, found none")) as (client, _):
        answer = client.search({"image_url": "https://images.example.com/a.jpg"})
        assert problem_of(answer, status) == "image_url: expected a picture, found none"
        assert answer.json["reason"] == reason.value


def test_urls_are_not_fetched_unless_that_was_asked_for(client):
    detail = problem_of(client.search({"image_url": "https://images.example.com/a.jpg"}), 422)
    assert detail == "image_url: this server fetches no pictures (see --allow_fetch); send the picture itself"


def test_the_catalogs_pictures_may_be_gone(served_store, rows):
    class Gone:
        def fetch(self, image_uri: str, row: int) -> bytes:
            raise Rejected(Reason.NOT_FOUND, "/inside/of/the/shop: no such file")

        def stored_thumbnail(self, row: int) -> None:
            return None

    sources = dataclasses.replace(open_sources(served_store.uri, None, ()), open_catalog=lambda _: Gone())
    with running(options_of(served_store), sources=sources) as server, Client(server.port) as client:
        box = {"x": 0, "y": 0, "width": 10, "height": 10}
        thumbnail = client.ask("GET", "/v1/images/both-4/thumbnail")
        assert problem_of(thumbnail, 404) == "the catalog's picture cannot be had: not_found"
        cut = client.search({"image_id": "both-4", "crop": box})
        assert problem_of(cut, 404) == "the catalog's picture: not_found"
        for answer in (thumbnail, cut):
            assert answer.json["reason"] == "not_found"
        assert len(hits_of(client.search({"image_id": "both-4"}))) == 10


def test_without_a_model_there_are_vectors_and_ids(served_store, rows):
    with running(options_of(served_store)) as server, Client(server.port) as client:
        watcher = server.service.watcher
        watcher._current = dataclasses.replace(watcher.current, model=None)  # as with --no_pictures
        detail = "expected vectors or ids: this server takes no pictures (--no_pictures)"
        box = {"x": 0, "y": 0, "width": 10, "height": 10}
        for answer in (client.search(query_picture()), client.search({"image_id": ODD_ID, "crop": box})):
            assert problem_of(answer, 422) == detail
        assert client.ask("GET", "/v1/index").json["pictures"] is False
        vector = query_vector()
        check(rows, hits_of(client.search({"vector": vector, "k": 3})), nearest(rows, vector, 3))
        assert client.ask("GET", "/v1/images/both-4/thumbnail").status == 200


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
