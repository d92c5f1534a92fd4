"""Where a serving process gets its pictures: told by plain values, within what they allow."""

from __future__ import annotations

import pytest

from index_builder.search.searcher import Searcher
from serving.options import ServeOptions
from serving.sources import PictureSources
from store.errors import UserError
from store.rejects import Rejected


def test_the_catalogs_pictures_lie_beside_it_or_where_the_flag_says(served_store, tmp_path):
    searcher = Searcher.open(served_store.uri)
    hit = searcher.rows.hit(3, 1.0)
    (picture,) = (path for path in served_store.pictures if path.name == hit.image_uri)
    beside = PictureSources(ServeOptions(served_store.uri)).open_catalog(searcher)
    assert beside.fetch(hit.image_uri, 3) == picture.read_bytes()
    elsewhere = PictureSources(ServeOptions(served_store.uri, pictures_base=str(tmp_path))).open_catalog(searcher)
    with pytest.raises(Rejected, match="not_found"):
        elsewhere.fetch(hit.image_uri, 3)
    (tmp_path / picture.name).write_bytes(picture.read_bytes())
    assert elsewhere.fetch(hit.image_uri, 3) == picture.read_bytes()
    (tmp_path / picture.name).write_bytes(b"another")
    with pytest.raises(Rejected, match="changed"):
        elsewhere.fetch(hit.image_uri, 3)


def test_urls_are_fetched_only_from_hosts_that_were_given(served_store):
    assert PictureSources(ServeOptions(served_store.uri)).fetch_url is None
    fetch = PictureSources(ServeOptions(served_store.uri, allowed_hosts=("images.example.com",))).fetch_url
    assert fetch is not None
    with pytest.raises(Rejected, match="forbidden: expected the URL of a host "):
        fetch("https://other.example.com/a.jpg")


def test_a_host_that_makes_no_sense_is_one_line(served_store):
    with pytest.raises(UserError, match=r"^--allow_fetch: allowed host: expected a name "):
        PictureSources(ServeOptions(served_store.uri, allowed_hosts=("https://images.example.com/",)))


def test_a_catalog_names_urls_only_of_hosts_that_were_given(served_store):
    pictures = PictureSources(ServeOptions(served_store.uri)).open_catalog(Searcher.open(served_store.uri))
    with pytest.raises(Rejected, match=r"not_allowed: .*--allow_fetch images\.example\.com"):
        pictures.fetch("https://images.example.com/a.jpg", 0)
