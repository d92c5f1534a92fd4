"""Opening a version: with the catalog's own model, and only if it finds what it holds."""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from encoder.decode import DecodeOptions, decode_picture
from encoder.model import default_batch_size
from encoder.normalise import Unit, normalise
from encoder.picture_encoder import PictureEmbedding, PictureEncoder
from index_builder.build.builder import build_index
from index_builder.build.request import BuildRequest
from index_builder.search.searcher import Searcher
from serving import published as module
from serving.options import ServeOptions
from serving.published import open_published, picture_batch_size
from serving.sources import PictureSources
from store.errors import StoreError, UserError
from store.index import version_folder
from store.location import Store
from store.rejects import Reason, Rejected
from tests.support.serving import EDITION, ITEMS, VIEWS, ServedStore
from tests.support.small_store import SmallStore, make_small_index


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallStore:
    """With a real model's index."""
    return make_small_index(tmp_path_factory.mktemp("small"), items=6, views=1)


def sources(store: str) -> PictureSources:
    return PictureSources(ServeOptions(store))


def vectors_only(store: ServedStore) -> ServeOptions:
    return ServeOptions(store.uri, pictures=False)


def test_a_query_picture_gets_the_embedding_that_the_command_line_gives_it(small):
    options = ServeOptions(small.uri, batch_size=2)
    first = open_published(options, sources(small.uri), None)
    assert first.model is not None
    assert (first.model.encoder.batch_size, first.untrained) == (2, True)
    files = sorted(Path(small.catalog).parent.rglob("*.jpg"))[:2]
    pictures = [file.read_bytes() for file in files]
    spec = first.model.spec
    pixels = [decode_picture(data, DecodeOptions(spec.image_size, resize=spec.resize)).pixels for data in pictures]
    units = normalise(first.model.encoder.encode(np.stack(pixels)))
    embedded = np.stack([unit.embedding for unit in units if isinstance(unit, Unit)])
    found = PictureEncoder.open(Store(small.uri), small.encoder).embed(pictures)
    expected = np.stack([picture.embedding for picture in found if isinstance(picture, PictureEmbedding)])
    np.testing.assert_allclose(embedded, expected, atol=1e-5)
    scores = first.searcher.search(embedded, 1).scores[:, 0]
    np.testing.assert_allclose(scores, 1.0, atol=5e-3)

    build_index(Store(small.uri), BuildRequest(k=3, target_recall=0.5))
    second = open_published(options, sources(small.uri), None, first)
    assert second.version != first.version
    assert second.model is first.model  # loading one takes seconds, and memory for two

    weights = small.weights_file()
    weights.rename(weights.with_suffix(".gone"))
    assert open_published(options, sources(small.uri), None, second).model is first.model
    with pytest.raises(StoreError, match="expected the weights the catalog was embedded with, found no file"):
        open_published(options, sources(small.uri), None)


def test_it_knows_its_attributes_the_most_frequent_first(served_store):
    opened = open_published(vectors_only(served_store), sources(served_store.uri), None)
    categories = Counter(("shoe", "bag", "hat")[item % 3] for item in range(ITEMS))
    assert {attribute["name"] for attribute in opened.attributes} == {"category", EDITION}
    (category,) = [attribute for attribute in opened.attributes if attribute["name"] == "category"]
    assert category["distinct"] == 3
    assert Counter({found["value"]: found["rows"] for found in category["values"]}) == Counter(
        {name: VIEWS * items for name, items in categories.items()}
    )
    rows = [found["rows"] for found in category["values"]]
    assert rows == sorted(rows, reverse=True)
    assert opened.version == served_store.versions[-1]
    assert opened.snapshot == opened.searcher.manifest.snapshot
    assert (opened.model, opened.untrained) == (None, False)
    assert opened.warm_up_s > 0


def test_of_many_values_some_are_told(served_store, monkeypatch):
    monkeypatch.setattr(module, "_MAX_VALUES", 2)
    opened = open_published(vectors_only(served_store), sources(served_store.uri), None)
    (category,) = [attribute for attribute in opened.attributes if attribute["name"] == "category"]
    assert (category["distinct"], len(category["values"])) == (3, 2)


def test_it_fetches_the_catalogs_pictures(served_store, pictures):
    opened = open_published(vectors_only(served_store), sources(served_store.uri), None)
    hit = opened.searcher.rows.hit(0, 1.0)
    assert opened.pictures.fetch(hit.image_uri, 0) in pictures
    with pytest.raises(Rejected) as rejected:
        opened.pictures.fetch("no-such-picture.jpg", 0)
    assert rejected.value.reason is Reason.NOT_FOUND


def test_there_must_be_something_to_open(served_store, tmp_path):
    with pytest.raises(UserError):
        open_published(vectors_only(served_store), sources(served_store.uri), "20010101T000000Z-000000")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="published"):
        open_published(ServeOptions(str(tmp_path / "empty"), pictures=False), sources(served_store.uri), None)


def test_a_version_that_does_not_find_its_own_rows_is_refused(served_store, monkeypatch):
    vectors = Searcher.vectors

    def noise(searcher: Searcher, rows: np.ndarray) -> np.ndarray:
        found = vectors(searcher, rows)
        found[: len(found) // 2] = np.random.default_rng(0).standard_normal(found[: len(found) // 2].shape)
        return found

    monkeypatch.setattr(Searcher, "vectors", noise)
    with pytest.raises(StoreError, match=r"expected at least 75% of 16 rows .* found 5\d%; build the index again"):
        open_published(vectors_only(served_store), sources(served_store.uri), None)


def test_a_version_whose_vectors_have_no_direction_is_refused(served_store, monkeypatch):
    monkeypatch.setattr(Searcher, "vectors", lambda searcher, rows: np.zeros((len(rows), 16), np.float32))
    with pytest.raises(StoreError, match="cannot be searched"):
        open_published(vectors_only(served_store), sources(served_store.uri), None)


def test_a_damaged_version_is_refused(served_store, tmp_path):
    copy = tmp_path / "store"
    shutil.copytree(served_store.uri, copy)
    folder = copy / version_folder(served_store.versions[-1])
    (path,) = [file for file in folder.rglob("*") if file.name == "rows.arrow"]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StoreError):
        open_published(ServeOptions(str(copy), pictures=False), sources(str(copy)), None)


def test_the_model_takes_half_of_what_suits_the_hardware_or_what_was_said(served_store):
    options = ServeOptions(served_store.uri)
    assert picture_batch_size(options) == max(1, default_batch_size() // 2)
    assert picture_batch_size(dataclasses.replace(options, batch_size=3)) == 3
