"""Where pictures come from: URLs, the catalog's own pictures, and no model at all."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

import pytest

from serving.sources import PictureSources
from store.rejects import Reason, Rejected
from tests.support.api_answers import check_hits, embedding, hits_of, nearest, options_of, problem_of
from tests.support.serving import ODD_ID, Client, ServedStore, query_picture, query_vector, running


@contextlib.contextmanager
def fetching(store: ServedStore, found: bytes | Rejected) -> Iterator[tuple[Client, list[str]]]:
    """A server that takes URLs, all of which lead to the same."""
    asked: list[str] = []

    def fetch(url: str) -> bytes:
        asked.append(url)
        if isinstance(found, Rejected):
            raise found
        return found

    sources = PictureSources(options_of(store))
    sources.fetch_url = fetch
    with running(options_of(store), sources=sources) as server, Client(server.port) as client:
        yield client, asked


def test_a_url_is_fetched_and_embedded(served_store, rows):
    picture = query_picture()
    url = "https://images.example.com/a%20b.jpg?x=1"
    with fetching(served_store, picture) as (client, asked):
        assert client.ask("GET", "/v1/index").json["picture_urls"] is True
        answer = client.search({"image_url": url, "k": 4})
        check_hits(rows, hits_of(answer), nearest(rows, embedding(picture), 4))
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


def test_the_catalogs_pictures_may_be_gone(served_store, rows, monkeypatch):
    class Gone:
        def fetch(self, image_uri: str, row: int) -> bytes:
            raise Rejected(Reason.NOT_FOUND, "/inside/of/the/shop: no such file")

        def stored_thumbnail(self, row: int) -> None:
            return None

    monkeypatch.setattr(PictureSources, "open_catalog", lambda *_: Gone())
    with running(options_of(served_store)) as server, Client(server.port) as client:
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
        check_hits(rows, hits_of(client.search({"vector": vector, "k": 3})), nearest(rows, vector, 3))
        assert client.ask("GET", "/v1/images/both-4/thumbnail").status == 200
