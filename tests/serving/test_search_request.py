"""What a request may say, in each of its forms, and what it is told where it makes no sense."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
from fastapi import Request
from hypothesis import given
from hypothesis import strategies as st

from encoder.decode import Box
from serving.options import MAX_K, MAX_VECTORS
from serving.problem import Problem
from serving.search_request import (
    QUERIES,
    SEARCH_OPTIONS,
    Options,
    SearchRequest,
    parse_document,
    parse_options,
    parse_search,
)
from serving.uploads import Forms
from tests.support.serving import multipart

JSON = "application/json"


def options_of(*pairs: tuple[str, str]) -> Options:
    return parse_options(pairs, SEARCH_OPTIONS)


def search(body: bytes | dict[str, Any], query: str = "", media_type: str = JSON) -> SearchRequest:
    """What `POST /v1/search` understands."""
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/search",
        "query_string": query.encode(),
        "headers": [(b"content-type", media_type.encode())],
    }
    data = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def parse() -> SearchRequest:
        forms = Forms(max_waiting=1)
        try:
            return await parse_search(Request(scope), media_type.partition(";")[0], data, forms)
        finally:
            forms.close()

    return asyncio.run(parse())


def refusal(status: int, *arguments: Any, **more: Any) -> str:
    """The detail of the problem that a search ends with."""
    with pytest.raises(Problem) as problem:
        search(*arguments, **more)
    assert problem.value.status == status
    return problem.value.detail


def test_nothing_said_is_nothing_said():
    assert options_of() == Options(None, None, None, None)
    assert Options().sorted_where == ()


def test_all_options_as_text():
    found = options_of(
        ("where", "colour=dark=red"), ("k", "7"), ("group_by", "item"), ("where", "a="), ("crop", "1,2,3,4")
    )
    assert found == Options(7, {"colour": "dark=red", "a": ""}, "item", Box(1, 2, 3, 4))
    assert found.sorted_where == (("a", ""), ("colour", "dark=red"))


@pytest.mark.parametrize(
    ("pairs", "detail"),
    [
        ([("kk", "7")], "expected one of k, where, group_by, crop, found 'kk'"),
        ([("K", "7")], "expected one of k, where, group_by, crop, found 'K'"),
        ([("", "")], "expected one of k, where, group_by, crop, found ''"),
        ([("x" * 100, "")], f"expected one of k, where, group_by, crop, found '{'x' * 40}'"),
        ([("k", "7"), ("k", "7")], "k: expected once, found twice"),
        ([("crop", "1,2,3,4"), ("crop", "1,2,3,4")], "crop: expected once, found twice"),
        ([("group_by", "item"), ("group_by", "item")], "group_by: expected once, found twice"),
        *[
            ([("k", text)], f"k: expected a whole number from 1 to 1000, found {text!r}")
            for text in ("", "0", "1001", "-1", "+1", "1.0", "1e2", " 1", "1_0", "٣", "²", "nan", "1" * 11)
        ],
        ([("k", "9" * 5000)], f"k: expected a whole number from 1 to 1000, found '{'9' * 40}'"),
        *[
            ([("where", text)], f"where: expected ATTRIBUTE=VALUE, found {text!r}")
            for text in ("", "category", "=shoe", "=")
        ],
        ([("where", "a=1"), ("where", "a=2")], "where: expected every attribute once, found 'a' twice"),
        ([("group_by", "")], "group_by: expected item, found ''"),
        ([("group_by", "Item")], "group_by: expected item, found 'Item'"),
        *[
            ([("crop", text)], f"crop: expected x,y,width,height in pixels, found {text!r}")
            for text in ("", "1,2,3", "1,2,3,4,5", "1;2;3;4")
        ],
        ([("crop", "a,2,3,4")], "crop: x: expected a whole number from 0 to 2147483647, found 'a'"),
        ([("crop", "1,-2,3,4")], "crop: y: expected a whole number from 0 to 2147483647, found '-2'"),
        ([("crop", "1,2,0,4")], "crop: width: expected a whole number from 1 to 2147483647, found '0'"),
        ([("crop", "1,2,3,")], "crop: height: expected a whole number from 1 to 2147483647, found ''"),
        ([("crop", "1,2,3, 4")], "crop: height: expected a whole number from 1 to 2147483647, found ' 4'"),
    ],
)
def test_text_that_makes_no_sense(pairs, detail):
    with pytest.raises(Problem) as problem:
        options_of(*pairs)
    assert (problem.value.status, problem.value.detail) == (422, detail)


def test_a_path_takes_only_its_own_options():
    assert parse_options([("k", "3")], ("k", "where")) == Options(3)
    with pytest.raises(Problem, match="expected one of k, where, found 'crop'"):
        parse_options([("crop", "1,2,3,4")], ("k", "where"))


@given(
    k=st.none() | st.integers(1, MAX_K),
    where=st.dictionaries(st.text(min_size=1).filter(lambda name: "=" not in name), st.text(), min_size=1, max_size=4)
    | st.none(),
    group_by=st.sampled_from([None, "item"]),
    crop=st.none() | st.builds(Box, *[st.integers(low, 1 << 20) for low in (0, 0, 1, 1)]),
)
def test_whatever_is_asked_for_comes_out_of_its_text_and_of_its_document(k, where, group_by, crop):
    expected = Options(k, where, group_by, crop)
    pairs = [("where", f"{name}={value}") for name, value in (where or {}).items()]
    pairs += [(name, str(value)) for name, value in (("k", k), ("group_by", group_by)) if value is not None]
    if crop:
        pairs.append(("crop", f"{crop.x},{crop.y},{crop.width},{crop.height}"))
    assert options_of(*pairs) == expected
    assert search(b"\xff\xd8", urlencode(pairs), "image/jpeg") == SearchRequest(expected, picture=b"\xff\xd8")
    box = {"x": crop.x, "y": crop.y, "width": crop.width, "height": crop.height} if crop else None
    given = {"k": k, "where": where, "group_by": group_by, "crop": box}
    document = {name: value for name, value in given.items() if value is not None}
    found = search({"image_id": "a", **document})
    assert found.options == expected
    assert found.document is not None
    assert (found.document.image_id, found.picture, list(found.vectors)) == ("a", None, [])


@given(
    mine=st.fixed_dictionaries({}, optional={"k": st.integers(1, 9), "group_by": st.just("item")}),
    others=st.fixed_dictionaries({}, optional={"where": st.just({"a": "b"}), "crop": st.just(Box(1, 2, 3, 4))}),
)
def test_what_is_said_in_two_places_is_put_together(mine, others):
    assert Options(**mine).over(Options(**others)) == Options(**mine, **others)
    assert Options(**others).over(Options(**mine)) == Options(**mine, **others)


@pytest.mark.parametrize(
    ("document", "query"),
    [
        ({"k": 3}, "k=3"),
        ({"where": {"a": "b"}}, "where=c=d"),
        ({"group_by": "item"}, "group_by=item"),
        ({"crop": {"x": 0, "y": 0, "width": 1, "height": 1}}, "crop=0,0,1,1"),
    ],
)
def test_what_is_said_twice_is_refused(document, query):
    (name,) = document
    detail = refusal(422, {"image_id": "a", **document}, query)
    assert detail == f"{name}: expected once, found in the body and in the query"


def test_a_document_and_a_query_string_together():
    found = search({"item_id": "a", "k": 3, "where": {}}, "where=c=d&group_by=item")
    assert found.options == Options(3, {"c": "d"}, "item")


def test_a_form_has_the_picture_and_text_fields():
    body, media_type = multipart(b"picture", {"k": "4", "where": "a=b"})
    found = search(body, "group_by=item&crop=1,2,3,4", media_type)
    assert found == SearchRequest(Options(4, {"a": "b"}, "item", Box(1, 2, 3, 4)), picture=b"picture")


def test_a_form_says_nothing_twice_and_nothing_unknown():
    body, media_type = multipart(b"picture", {"k": "4"})
    assert refusal(422, body, "k=4", media_type) == "k: expected once, found in the body and in the query"
    body, media_type = multipart(b"picture", {"size": "4"})
    assert refusal(422, body, "", media_type) == "expected one of k, where, group_by, crop, found 'size'"


def test_a_form_without_a_picture():
    body, media_type = multipart(b"", {"k": "4"})
    fields_only = body[: body.rindex(b"\r\n--", 0, body.index(b"filename"))] + b"\r\n--7d1f3b5a9c2e4608--\r\n"
    assert refusal(422, fields_only, "", media_type) == "expected the picture in a file field named image, found none"


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        (b"", 400, "expected a JSON document, found "),
        (b"{", 400, "expected a JSON document, found "),
        (b"\xff\xfe", 400, "expected a JSON document, found "),
        (b'{"vector": [NaN]}', 400, "expected a JSON document, found "),
        (b'{"vector": [1e999]}', 400, "expected a JSON document, found "),
        (b"[" * 5000, 400, "expected a JSON document, found "),
        (b"[" * 100_000, 422, "expected at most 10,000 [ in a document, found 100,000"),
        (b"[]", 422, "expected a JSON object, found list"),
        (b"null", 422, "expected a JSON object, found NoneType"),
        (b"{}", 422, f"expected exactly one of {', '.join(QUERIES)}, found none"),
        (b'{"vector": null}', 422, f"expected exactly one of {', '.join(QUERIES)}, found none"),
        (
            b'{"vector": [1], "item_id": "a"}',
            422,
            f"expected exactly one of {', '.join(QUERIES)}, found vector, item_id",
        ),
        (b'{"vector": 7}', 422, "vector 0: expected a list of numbers or base64, found int"),
        (b'{"vector": {}}', 422, "vector 0: expected a list of numbers or base64, found dict"),
        (b'{"vector": ["1"]}', 422, "vector 0: expected numbers only, found something else"),
        (b'{"vector": [null]}', 422, "vector 0: expected numbers only, found something else"),
        (b'{"vector": [[1]]}', 422, "vector 0: expected numbers only, found something else"),
        (b'{"vectors": [[1], ["1"]]}', 422, "vector 1: expected numbers only, found something else"),
        (b'{"vectors": []}', 422, "vectors: expected 1 to 64 vectors, found 0"),
        (b'{"vectors": {"0": [1]}}', 422, "vectors: expected 1 to 64 vectors, found dict"),
        (json.dumps({"vectors": [[1]] * 65}).encode(), 422, "vectors: expected 1 to 64 vectors, found 65"),
        (b'{"vector": "AAAA"}', 422, "vector 0: expected base64 of little-endian float32, found other text"),
        (b'{"vector": "AAAAA==="}', 422, "vector 0: expected base64 of little-endian float32, found other text"),
        (b'{"vector": "AAAA AAAA"}', 422, "vector 0: expected base64 of little-endian float32, found other text"),
        ('{"vector": "é"}'.encode(), 422, "vector 0: expected base64 of little-endian float32, found other text"),
        (b'{"item_id": "a", "limit": 3}', 422, "limit: Extra inputs are not permitted"),
        (b'{"item_id": "a", "k": "3"}', 422, "k: Input should be a valid integer"),
        (b'{"item_id": "a", "k": 3.0}', 422, "k: Input should be a valid integer"),
        (b'{"item_id": "a", "k": true}', 422, "k: Input should be a valid integer"),
        (b'{"item_id": "a", "k": 0}', 422, "k: Input should be greater than or equal to 1"),
        (b'{"item_id": "a", "k": 1001}', 422, "k: Input should be less than or equal to 1000"),
        (b'{"item_id": ""}', 422, "item_id: String should have at least 1 character"),
        (b'{"item_id": 7}', 422, "item_id: Input should be a valid string"),
        (b'{"image_id": ["a"]}', 422, "image_id: Input should be a valid string"),
        (b'{"item_id": "a", "where": ["a=b"]}', 422, "where: Input should be"),
        (b'{"item_id": "a", "where": {"a": 7}}', 422, "where.a: Input should be a valid string"),
        (b'{"item_id": "a", "group_by": "image"}', 422, "group_by: Input should be 'item'"),
        (b'{"image_id": "a", "crop": [1, 2, 3, 4]}', 422, "crop: Input should be"),
        (b'{"image_id": "a", "crop": {"x": 0, "y": 0, "width": 1}}', 422, "crop.height: Field required"),
        (
            b'{"image_id": "a", "crop": {"x": 0, "y": 0, "width": 0, "height": 1}}',
            422,
            "crop.width: Input should be greater than or equal to 1",
        ),
    ],
)
def test_a_document_that_makes_no_sense(body, status, detail):
    assert refusal(status, body).startswith(detail)


def test_what_is_refused_is_not_repeated_at_length():
    name = "n" * 10_000
    assert len(refusal(422, {"item_id": "a", name: "v" * 10_000})) < 200
    assert len(refusal(422, {"item_id": "a", "where": {name: 7}})) < 200


@given(st.lists(st.floats(-1e30, 1e30), min_size=1, max_size=40))
def test_numbers_arrive_as_they_were_sent(numbers):
    document, vectors = parse_document(json.dumps({"vector": numbers}).encode())
    assert [vector.tolist() for vector in vectors] == [numbers]
    assert document.vector is None


@given(st.lists(st.lists(st.floats(width=32), min_size=1, max_size=9), min_size=1, max_size=5))
def test_float32_arrives_bit_by_bit_from_base64(rows):
    sent = [np.array(row, "<f4") for row in rows]
    texts = [base64.b64encode(vector.tobytes()).decode() for vector in sent]
    _, vectors = parse_document(json.dumps({"vectors": texts}).encode())
    assert [vector.tobytes() for vector in vectors] == [vector.tobytes() for vector in sent]
    assert {vector.dtype for vector in vectors} == {np.dtype("<f4")}


def test_vectors_may_come_in_both_forms_and_as_many_as_there_may_be():
    text = base64.b64encode(np.array([1, 2], "<f4").tobytes()).decode()
    _, vectors = parse_document(json.dumps({"vectors": [[1, 2], text] * (MAX_VECTORS // 2)}).encode())
    assert len(vectors) == MAX_VECTORS
    np.testing.assert_array_equal(vectors, [[1, 2]] * MAX_VECTORS)


def test_a_vector_of_no_numbers_is_left_to_who_knows_the_index():
    for body in (b'{"vector": []}', b'{"vector": ""}'):
        assert [len(vector) for vector in parse_document(body)[1]] == [0]
