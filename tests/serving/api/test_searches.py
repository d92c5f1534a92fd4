"""Every call of the API against brute force over the snapshot, through a real server."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from encoder.decode import Box
from store.index import read_index_manifest
from store.location import Store
from tests.support.api_answers import ROWS, check_hits, embedding, hits_of, nearest, problem_of, siblings
from tests.support.hostile import encoded, photo
from tests.support.serving import EDITION, ITEMS, ODD_ID, multipart, query_picture, query_vector, quoted


def test_a_vector_finds_what_brute_force_finds(served_store, rows, client):
    vector = query_vector()
    answer = client.search({"vector": vector, "k": 5})
    assert answer.headers["content-type"] == "application/json"
    document = answer.json
    assert document.keys() == {"version", "snapshot", "queries"}
    assert document["version"] == served_store.versions[-1]
    assert document["snapshot"] == read_index_manifest(Store(served_store.uri), document["version"]).snapshot
    assert [query.keys() for query in document["queries"]] == [{"hits"}]
    check_hits(rows, hits_of(answer), nearest(rows, vector, 5))


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
        check_hits(rows, query["hits"], nearest(rows, vector, 4))


def test_a_vector_of_any_length_is_searched_for_by_its_direction(rows, client):
    vector = np.asarray(query_vector())
    expected = nearest(rows, vector, 3)
    for scale in (1e-100, 1e-6, 1e30):
        check_hits(rows, hits_of(client.search({"vector": (vector * scale).tolist(), "k": 3})), expected)


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
        check_hits(rows, hits_of(answer), expected)
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
    check_hits(rows, alone, nearest(rows, embedding(cut), 6))
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
    check_hits(rows, hits, nearest(rows, rows[image_id]["embedding"], ROWS, without={image_id}))
    hits = hits_of(client.search({"image_id": image_id, "k": ROWS, "group_by": "item"}))
    expected = nearest(rows, rows[image_id]["embedding"], ROWS, siblings(rows, image_id), group_by_item=True)
    assert len(expected) == ITEMS - 1
    check_hits(rows, hits, expected)


def test_a_part_of_a_row_is_cut_out_of_the_catalogs_own_picture(rows, client, served_store):
    image_id = "both-2"
    data = Path(served_store.pictures[0]).with_name(rows[image_id]["image_uri"]).read_bytes()
    box = {"x": 0, "y": 0, "width": 40, "height": 30}
    answer = client.search({"image_id": image_id, "crop": box, "k": 7})
    check_hits(rows, hits_of(answer), nearest(rows, embedding(data, Box(**box)), 7, without={image_id}))
    with Image.open(io.BytesIO(data)) as picture:
        assert answer.json["queries"][0]["picture"] == {"width": picture.width, "height": picture.height}


def test_an_item_is_the_mean_of_its_pictures(rows, client):
    own = siblings(rows, "both-6")
    mean = np.mean([rows[name]["embedding"] for name in own], axis=0)
    hits = hits_of(client.search({"item_id": "sku-2", "k": 9}))
    check_hits(rows, hits, nearest(rows, mean, 9, without=own))


def test_answers_meet_every_condition_wherever_it_was_said(rows, client):
    vector = query_vector(5)
    where = {"category": "bag", EDITION: "one"}
    expected = nearest(rows, vector, 5, where=where)
    assert expected
    check_hits(rows, hits_of(client.search({"vector": vector, "k": 5, "where": where})), expected)
    answer = client.ask("POST", "/v1/search?where=category=bag&k=5&where=edition%3Done", {"vector": vector})
    check_hits(rows, hits_of(answer), expected)
    assert hits_of(client.search({"vector": vector, "where": {"category": "boat"}})) == []


def test_an_items_best_picture_stands_for_it(rows, client):
    vector = query_vector(6)
    hits = hits_of(client.search({"vector": vector, "k": 4, "group_by": "item"}))
    check_hits(rows, hits, nearest(rows, vector, 4, group_by_item=True))


@pytest.mark.parametrize(
    ("document", "missing"), [({"image_id": "no-such"}, "no-such"), ({"item_id": "no/such"}, "no/such")]
)
def test_what_is_not_there_is_404(client, document, missing):
    assert missing in problem_of(client.search(document), 404)
