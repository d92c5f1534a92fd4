"""A run on a store that has a snapshot, in a process that runs short of something."""

from __future__ import annotations

import errno

import pytest

import transforms.brake
import transforms.embeddings
from encoder.decode import decode_picture
from fetch.fetcher import ImageFetcher
from store.errors import StoreError
from store.location import Store
from store.snapshot import list_snapshots
from tests.support.drawn_catalog import draw, put
from tests.support.http_server import jpeg
from tests.support.small_embed import embed_again, rows_of, write_catalog


@pytest.mark.parametrize("lack", [MemoryError(), OSError(errno.EMFILE, "Too many open files")], ids=repr)
def test_a_shortage_of_this_process_costs_no_picture_its_embedding(tmp_path, monkeypatch, lack):
    catalog = write_catalog(tmp_path / "c.csv", draw(tmp_path, 12))
    first = embed_again(catalog, tmp_path / "store")
    put(tmp_path / "3.jpg", 1003, when=2)
    put(tmp_path / "4.jpg", 1004, when=2)
    failing, whole = jpeg(1003), (decode_picture, ImageFetcher._read_descriptor)

    def decode(data, options):
        if data == failing:
            raise lack
        return whole[0](data, options)

    def read(self, descriptor, known):
        fetched = whole[1](self, descriptor, known)
        if fetched is not None and fetched.data == failing:
            raise lack
        return fetched

    if isinstance(lack, MemoryError):
        monkeypatch.setattr(transforms.embeddings, "decode_picture", decode)
    else:
        monkeypatch.setattr(ImageFetcher, "_read_descriptor", read)
    monkeypatch.setattr(transforms.brake, "_LONGEST_SHORT_PAUSE_S", 0.0)
    second = embed_again(catalog, tmp_path / "store")
    assert (second.counts.embedded, second.counts.rejected, second.work["stale"]) == (1, 0, 1)
    before, after = rows_of(tmp_path / "store", first), rows_of(tmp_path / "store", second)
    assert after["id3"]["embedding"] == before["id3"]["embedding"]
    monkeypatch.undo()
    third = embed_again(catalog, tmp_path / "store")
    assert (third.counts.embedded, third.counts.rejected, third.work["stale"]) == (1, 0, 0)


def test_a_shortage_that_lasts_ends_the_run_in_a_line_that_says_what_to_do(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    catalog = write_catalog(tmp_path / "c.csv", draw(tmp_path, 12))
    monkeypatch.setattr(ImageFetcher, "_read_descriptor", fail)
    monkeypatch.setattr(transforms.brake, "_LONGEST_PAUSE_S", 0.0)
    monkeypatch.setattr(transforms.brake.Brake.__init__, "__kwdefaults__", {"is_short": lambda lack: True})
    with pytest.raises(StoreError, match=r"^this process may open no more files .* ulimit -n") as caught:
        embed_again(catalog, tmp_path / "store")
    assert "\n" not in str(caught.value)
    assert list_snapshots(Store(str(tmp_path / "store"))) == []
