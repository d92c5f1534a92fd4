"""Stored thumbnails: by content, pruned when no snapshot has the picture any more."""

from __future__ import annotations

import datetime
from pathlib import Path

import pyarrow as pa
import pytest

from encoder.thumbnails import STORED_PX, shrink_stored, stored_thumbnail
from fetch.trust import AUTO
from index_builder.build.builder import build_index
from index_builder.build.request import BuildRequest
from index_builder.search.picture_digests import PictureDigests
from index_builder.search.rows import Rows
from index_builder.search.searcher import Searcher
from pipelines.thumbnails import open_index_thumbnails
from store.location import Store
from store.prune_thumbnails import prune_thumbnails
from store.thumbnails import has_thumbnail, read_thumbnail, thumbnail_path, write_thumbnail
from tests.support.hostile import encoded, photo
from tests.support.http_server import jpeg
from tests.support.small_embed import embed_again, rows_of, write_catalog

LATER = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=3)
DAY = datetime.timedelta(days=1)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / "catalog").mkdir()
    for number in range(4):
        (tmp_path / "catalog" / f"{number}.jpg").write_bytes(jpeg(number))
    rows = [{"image_id": str(number), "image_uri": f"{number}.jpg"} for number in range(4)]
    return write_catalog(tmp_path / "catalog" / "table.csv", rows)


def test_a_run_stores_one_of_every_picture_and_pages_need_no_other(table, tmp_path):
    store = Store(str(tmp_path / "store"))
    manifest = embed_again(table, tmp_path / "store", thumbnails=True)
    digests = [row["content_sha256"] for row in rows_of(tmp_path / "store", manifest).values()]
    assert all(has_thumbnail(store, digest) for digest in digests)
    build_index(store, BuildRequest(k=2, target_recall=0.5))
    for picture in table.parent.glob("*.jpg"):
        picture.write_bytes(b"another")
    searcher = Searcher.open(store.uri)
    thumbnails = open_index_thumbnails(store, AUTO, searcher)
    assert all(str(thumbnails(searcher.rows.hit(row, 1.0))).startswith("data:image/jpeg") for row in range(4))


def test_none_is_stored_unless_asked_for_and_a_changed_picture_is_not_shown(table, tmp_path):
    store = Store(str(tmp_path / "store"))
    embed_again(table, tmp_path / "store")
    assert store.list("thumbnails") == []
    build_index(store, BuildRequest(k=2, target_recall=0.5))
    searcher = Searcher.open(store.uri)
    (table.parent / "1.jpg").write_bytes(jpeg(77))
    thumbnails = open_index_thumbnails(store, AUTO, searcher)
    shown = {hit.image_id: thumbnails(hit) is not None for hit in (searcher.rows.hit(row, 1.0) for row in range(4))}
    assert shown == {"0": True, "1": False, "2": True, "3": True}


def test_a_version_whose_rows_have_no_digests_takes_the_snapshots(table, tmp_path):
    store = Store(str(tmp_path / "store"))
    manifest = embed_again(table, tmp_path / "store")
    version = build_index(store, BuildRequest(k=2, target_recall=0.5))
    rows = Searcher.open(store.uri).rows
    wanted = {row["image_id"]: row["content_sha256"] for row in rows_of(tmp_path / "store", manifest).values()}
    assert {rows.image_id(row): rows.content_sha256(row) for row in range(4)} == wanted
    folder = tmp_path / "store" / "indexes" / version.version / version.shards[0].name
    whole = pa.ipc.open_file(pa.memory_map(str(folder / "rows.arrow"))).read_all()
    old = Rows([whole.drop_columns(["content_sha256"])])
    assert old.content_sha256(0) == ""
    assert old.hit(2, 1.0) == rows.hit(2, 1.0)
    digests = PictureDigests(store, manifest.snapshot, old)
    assert {old.image_id(row): digests.of(row) for row in range(4)} == wanted
    assert PictureDigests(store, "20200101T000000Z-000000", old).of(0) == ""


def test_those_of_no_snapshot_are_pruned_when_they_are_old(table, tmp_path):
    store = Store(str(tmp_path / "store"))
    first = embed_again(table, tmp_path / "store", thumbnails=True)
    needed = {row["content_sha256"] for row in rows_of(tmp_path / "store", first).values()}
    write_thumbnail(store, "ab" * 32, b"of nothing")
    assert prune_thumbnails(store, datetime.datetime.now(datetime.timezone.utc), DAY) == 0
    (tmp_path / "store" / "embeddings" / "20300101T000000Z-000000").mkdir()  # a run that is on its way
    assert prune_thumbnails(store, LATER, DAY) == 0
    (tmp_path / "store" / "embeddings" / "20300101T000000Z-000000").rmdir()
    part = next((tmp_path / "store" / "embeddings").glob("*/part-*"))
    whole = part.read_bytes()
    part.write_bytes(b"damaged")
    assert prune_thumbnails(store, LATER, DAY) == 0
    part.write_bytes(whole)
    assert prune_thumbnails(store, LATER, DAY) == 1
    assert read_thumbnail(store, "ab" * 32) is None
    assert all(has_thumbnail(store, digest) for digest in needed)


@pytest.mark.parametrize("digest", ["", "..", "AB" * 32, "ab" * 31, "../" * 21 + "a"])
def test_a_path_is_made_of_digests_alone(digest):
    with pytest.raises(ValueError, match="SHA-256"):
        thumbnail_path(digest)


def test_it_knows_the_size_of_the_original():
    stored = stored_thumbnail(encoded(photo(900, 600), "JPEG"), 1 << 20)
    for side in (160, STORED_PX, 640):
        made = shrink_stored(stored, side, 1 << 20)
        assert (made.width, made.height) == (900, 600)
    assert shrink_stored(stored, 640, 1 << 20).jpeg == stored
    assert len(shrink_stored(stored, 160, 1 << 20).jpeg) < len(stored)
    foreign = shrink_stored(encoded(photo(90, 60), "JPEG"), 160, 1 << 20)
    assert (foreign.width, foreign.height) == (90, 60)
