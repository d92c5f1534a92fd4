"""Similar items, ids that hold anything, thumbnails, and what the index and its attributes are."""

from __future__ import annotations

import io
from collections.abc import Mapping

import pytest
from PIL import Image

from store.index import read_index_manifest
from store.location import Store
from tests.support.api_answers import ROWS, Rows, check_hits, hits_of, nearest, problem_of
from tests.support.serving import EDITION, ODD_ID, quoted


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
    check_hits(rows, document["hits"], expected_similar(rows, item_id, 4))
    hits = client.ask("GET", f"/v1/items/{quoted(item_id)}/similar?where=category=hat").json["hits"]
    check_hits(rows, hits, expected_similar(rows, item_id, 10, {"category": "hat"}))


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
    check_hits(
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
