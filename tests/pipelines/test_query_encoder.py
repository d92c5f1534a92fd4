"""A query picture gets the very embedding that the catalog's run gave it, or one clear line."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from encoder.weights import fill_randomly
from pipelines.query_encoder import QueryEncoder
from store.errors import StoreError, UserError
from store.location import Store
from store.snapshot import snapshot_folder
from tests.support.small_store import SmallStore, make_small_store


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallStore:
    return make_small_store(tmp_path_factory.mktemp("small"), items=20, views=2)


@pytest.fixture
def copied(small: SmallStore, tmp_path: Path) -> SmallStore:
    """The same with weights of its own, to damage."""
    weights = tmp_path / "weights" / small.weights_file().name
    weights.parent.mkdir()
    shutil.copy(small.weights_file(), weights)
    return SmallStore(small.catalog, str(tmp_path), small.manifest)


def catalog_embeddings(small: SmallStore) -> dict[str, np.ndarray]:
    folder = Path(small.uri, snapshot_folder(small.manifest.snapshot))
    rows = [row for file in small.manifest.files for row in pq.read_table(folder / file.path).to_pylist()]
    return {row["image_uri"]: np.array(row["embedding"], np.float32) for row in rows}


def pictures_of(small: SmallStore) -> dict[str, bytes]:
    with small.catalog.open(newline="", encoding="utf-8") as table:
        uris = [row["image_uri"] for row in csv.DictReader(table)]
    return {uri: (small.catalog.parent / uri).read_bytes() for uri in uris}


def test_a_catalog_picture_as_a_query_gets_the_catalogs_embedding(small):
    expected, pictures = catalog_embeddings(small), pictures_of(small)
    found = QueryEncoder(Store(small.uri), small.encoder).embed_pictures(list(pictures.values()), list(pictures))
    assert found.dtype == np.float32
    assert len(found) == 40 > 32, "more than a batch"
    for uri, vector in zip(pictures, found, strict=True):
        np.testing.assert_allclose(vector, expected[uri], atol=1e-5, err_msg=uri)
    assert len(np.unique(found.round(4), axis=0)) > 30, "pictures are told apart"


def test_one_encoder_embeds_again_and_again_and_nothing_at_all(small):
    encoder = QueryEncoder(Store(small.uri), small.encoder)
    (picture, *_) = pictures_of(small).values()
    first, second = (encoder.embed_pictures([picture], ["a"]) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert encoder.embed_pictures([], []).shape == (0, small.encoder["embedding_dim"])


def test_a_bad_picture_is_named_with_its_reason(small):
    encoder = QueryEncoder(Store(small.uri), small.encoder)
    picture = next(iter(pictures_of(small).values()))
    with pytest.raises(UserError, match=r"^page\.html: not_an_image: .+"):
        encoder.embed_pictures([picture, b"<html></html>", b""], ["good.jpg", "page.html", "empty.jpg"])


def test_missing_weights_are_one_line_that_names_the_file(copied):
    copied.weights_file().unlink()
    with pytest.raises(StoreError) as caught:
        QueryEncoder(Store(copied.uri), copied.encoder)
    assert str(copied.weights_file()) in str(caught.value)
    assert "found no file" in str(caught.value)


def test_weights_of_another_model_under_this_name_are_refused(copied):
    from encoder.backbones import build_model, find_backbone

    model = build_model(find_backbone("mobilenetv3small"), 64)
    fill_randomly(model, seed=4)
    copied.weights_file().unlink()
    model.save_weights(copied.weights_file())
    with pytest.raises(StoreError) as caught:
        QueryEncoder(Store(copied.uri), copied.encoder)
    assert str(copied.weights_file()) in str(caught.value)
    assert f"expected weights with digest {copied.encoder['weights_sha256'][:12]}" in str(caught.value)


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_damaged_weights_file_is_refused(copied, damage):
    file = copied.weights_file()
    if damage == "truncated":
        os.truncate(file, file.stat().st_size // 2)
    else:
        import h5py

        with h5py.File(file, "r+") as opened:
            datasets = []
            opened.visititems(lambda _, item: datasets.append(item) if isinstance(item, h5py.Dataset) else None)
            datasets[-1][...] = np.nextafter(datasets[-1][...], 9)
    with pytest.raises(StoreError) as caught:
        QueryEncoder(Store(copied.uri), copied.encoder)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_encoder_of_another_fingerprint_is_refused(small):
    with pytest.raises(StoreError, match="expected fingerprint"):
        QueryEncoder(Store(small.uri), {**small.encoder, "resize": "crop"})
