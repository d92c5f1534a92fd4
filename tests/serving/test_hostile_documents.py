"""JSON documents that make no sense, or too much of it, are answered with 4xx, soon and briefly."""

from __future__ import annotations

import time

import pytest

from serving.options import MAX_DOCUMENT_BYTES
from serving.problem import Problem
from serving.search_request import parse_document
from tests.support.problems import check_problem
from tests.support.serving import Client

JSON = "application/json"


def vector_with(number: bytes) -> bytes:
    return b'{"vector":[' + b",".join([number] * 16) + b"]}"


DOCUMENTS: list[tuple[str, bytes, set[int]]] = [
    ("nothing", b"", {400}),
    ("deep list", b"[" * 100_000, {400, 422}),
    ("deep object", b'{"where":' * 100_000, {400, 422}),
    ("deep and whole", b'{"where":' * 500 + b"{}" + b"}" * 500, {422}),
    ("list", b"[]", {422}),
    ("number", b"1", {422}),
    ("null", b"null", {422}),
    ("NaN", vector_with(b"NaN"), {400}),
    ("Infinity", vector_with(b"-Infinity"), {400}),
    ("too large for a float", vector_with(b"1e999"), {400}),
    ("too large for a square", vector_with(b"1e300"), {422}),
    ("too small for a square", vector_with(b"1e-300"), {422}),
    ("a thousand digits", vector_with(b"9" * 1000), {400}),
    ("zeros", vector_with(b"0"), {422}),
    ("text for numbers", vector_with(b'"1"'), {422}),
    ("lists for numbers", vector_with(b"[1]"), {422}),
    ("no numbers", b'{"vector":[]}', {422}),
    ("no vectors", b'{"vectors":[]}', {422}),
    ("an empty vector", b'{"vectors":[[]]}', {422}),
    ("65 vectors", b'{"vectors":[' + b",".join([b"[1]"] * 65) + b"]}", {422}),
    ("odd base64", b'{"vector":"AAA"}', {422}),
    ("base64 of 3 bytes", b'{"vector":"AAAA"}', {422}),
    ("base64 of NaN", b'{"vector":"' + b"AADAfwAAwH8A" * 8 + b'"}', {422}),
    ("k twice", b'{"image_id":"both-2","k":2,"k":3}', {200}),
    ("k too large", b'{"image_id":"both-2","k":18446744073709551616}', {400, 422}),
    ("k is text", b'{"image_id":"both-2","k":"3"}', {422}),
    ("k is true", b'{"image_id":"both-2","k":true}', {422}),
    ("id twice", b'{"image_id":"nowhere","image_id":"both-2"}', {200}),
    ("two queries", b'{"image_id":"both-2","item_id":"sku-1"}', {422}),
    ("invalid UTF-8", b'{"image_id":"\xff\xfe"}', {400}),
    ("lone surrogate", b'{"image_id":"\\ud83d"}', {400}),
    ("raw lone surrogate", b'{"image_id":"\xed\xa0\xbd"}', {400}),
    ("NUL in an id", b'{"image_id":"both-2\\u0000"}', {404}),
    ("NUL in a condition", b'{"image_id":"both-2","where":{"category":"\\u0000"}}', {200}),
    ("NUL in an attribute", b'{"image_id":"both-2","where":{"\\u0000":"a"}}', {422}),
    ("id of 4 MB", b'{"image_id":"' + b"x" * 4_000_000 + b'"}', {422}),
    ("URL of 4 MB", b'{"image_url":"https://' + b"x" * 4_000_000 + b'"}', {422}),
    ("condition of 4 MB", b'{"item_id":"sku-1","where":{"category":"' + b"x" * 4_000_000 + b'"}}', {422}),
    ("name of 4 MB", b'{"' + b"x" * 4_000_000 + b'":1,"item_id":"sku-1"}', {422}),
    ("key of 4 MB without query", b'{"' + b"x" * 4_000_000 + b'":1}', {422}),
    ("a million members", b'{"item_id":"sku-1",' + b",".join(b'"%d":1' % n for n in range(1_000_000)) + b"}", {413}),
    ("a million conditions", b'{"where":{' + b",".join(b'"%d":1' % n for n in range(1_000_000)) + b"}}", {413}),
    ("five million numbers", b'{"vector":[' + b"1," * 5_000_000 + b"1]}", {413}),
    ("five million lists", b'{"vectors":[' + b"[]," * 5_000_000 + b"[]]}", {413}),
    ("crop of a vector", b'{"item_id":"sku-1","crop":{"x":0,"y":0,"width":1,"height":1}}', {422}),
    ("crop of nothing", b'{"image_id":"both-2","crop":{"x":0,"y":0,"width":0,"height":1}}', {422}),
    ("crop beside the picture", b'{"image_id":"both-2","crop":{"x":9999,"y":0,"width":1,"height":1}}', {422}),
    ("a UTF-8 mark", b'\xef\xbb\xbf{"image_id":"both-2"}', {200, 400}),
    ("UTF-16", '{"image_id":"both-2"}'.encode("utf-16"), {400}),
]


@pytest.mark.parametrize(("body", "statuses"), [case[1:] for case in DOCUMENTS], ids=[case[0] for case in DOCUMENTS])
def test_odd_documents_are_answered_soon_and_briefly(client: Client, body: bytes, statuses: set[int]) -> None:
    answer = client.search(body, media_type=JSON)
    assert answer.status in statuses, answer.body[:500]
    check_problem(answer)


@pytest.mark.parametrize("body", [body for name, body, _ in DOCUMENTS if "million" in name])
def test_a_large_document_takes_little_of_the_time_that_all_requests_share(body: bytes) -> None:
    started_s = time.thread_time()
    with pytest.raises(Problem):
        parse_document(body)
    assert time.thread_time() - started_s < 0.2  # each of these took seconds before it was counted what they hold


@pytest.mark.parametrize(("size_bytes", "status"), [(MAX_DOCUMENT_BYTES, 200), (MAX_DOCUMENT_BYTES + 1, 413)])
def test_documents_have_a_limit_of_their_own(client: Client, size_bytes: int, status: int) -> None:
    answer = client.search(b'{"image_id":"both-2"}'.ljust(size_bytes), media_type=JSON)
    assert answer.status == status
    check_problem(answer)
