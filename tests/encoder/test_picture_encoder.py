"""A picture gets the very embedding that the catalog's run gave it, or the reason why it has none."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from encoder import picture_encoder as module
from encoder.decode import Box, Picture
from encoder.picture_encoder import PictureEmbedding, PictureEncoder, encode_batch
from encoder.weights import fill_randomly
from store.errors import StoreError
from store.location import Store
from store.rejects import Reason, Rejected
from store.shortage import Lack, ShortageError
from store.snapshot import snapshot_folder
from tests.support.fakes import FakeEncoder, FakeEncoderSource
from tests.support.hostile import encoded, photo
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


def embeddings(found: Sequence[PictureEmbedding | Rejected]) -> np.ndarray:
    """float32[n, D]; none of them may be a reject."""
    assert not [outcome for outcome in found if isinstance(outcome, Rejected)]
    return np.stack([outcome.embedding for outcome in found if isinstance(outcome, PictureEmbedding)])


def reasons(found: Sequence[PictureEmbedding | Rejected]) -> list[Reason | None]:
    return [outcome.reason if isinstance(outcome, Rejected) else None for outcome in found]


def fake(batch_size: int = 4) -> tuple[PictureEncoder, FakeEncoder]:
    encoder = FakeEncoder(batch_size)
    return PictureEncoder(FakeEncoderSource()._spec(), encoder), encoder


PICTURES = [encoded(photo(40 + 7 * number, 90 - 5 * number), "PNG") for number in range(11)]


def test_a_catalog_picture_gets_the_catalogs_embedding(small):
    expected, pictures = catalog_embeddings(small), pictures_of(small)
    encoder = PictureEncoder.open(Store(small.uri), small.encoder)
    found = embeddings(encoder.embed(pictures.values()))
    assert found.dtype == np.float32
    assert len(found) == 40 > encoder.encoder.batch_size, "more than a batch"
    for uri, vector in zip(pictures, found, strict=True):
        np.testing.assert_allclose(vector, expected[uri], atol=1e-5, err_msg=uri)
    assert len(np.unique(found.round(4), axis=0)) > 30, "pictures are told apart"


def test_one_encoder_embeds_again_and_again_and_nothing_at_all(small):
    encoder = PictureEncoder.open(Store(small.uri), small.encoder, batch_size=1, warm_up=True)
    assert encoder.encoder.batch_size == 1
    (picture, *_) = pictures_of(small).values()
    first, second = (embeddings(encoder.embed([picture])) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert encoder.embed([]) == []


def test_a_bad_picture_is_a_value_in_its_place_and_batches_are_full_all_the_same():
    encoder, model = fake(batch_size=4)
    bad = [PICTURES[0][:100], b"<html></html>", b""]
    found = encoder.embed([*PICTURES[:3], bad[0], *PICTURES[3:], *bad[1:]])
    expected = [Reason.TRUNCATED, *[None] * 8, Reason.NOT_AN_IMAGE, Reason.EMPTY]
    assert reasons(found) == [None] * 3 + expected
    assert model.batches == [4, 4, 3]
    assert str(found[-1]).startswith("empty: ")
    sizes = [(outcome.width, outcome.height) for outcome in found if isinstance(outcome, PictureEmbedding)]
    assert sizes == [(40 + 7 * number, 90 - 5 * number) for number in range(11)]


def test_all_at_once_is_what_each_is_alone():
    encoder, _ = fake()
    found = embeddings(encoder.embed(iter(PICTURES)))
    for data, embedding in zip(PICTURES, found, strict=True):
        (alone,) = encode_batch(FakeEncoder(), [encoder.decode(data)])
        assert isinstance(alone, PictureEmbedding)
        np.testing.assert_allclose(embedding, alone.embedding, atol=1e-6)
        assert np.linalg.norm(embedding) == pytest.approx(1)
        np.testing.assert_allclose(
            alone.embedding * alone.norm, FakeEncoder().encode(encoder.decode(data).pixels[None])[0], rtol=1e-5
        )


def test_pictures_are_taken_no_faster_than_they_are_embedded(monkeypatch):
    monkeypatch.setattr(module, "processors", lambda: 2)
    encoder, model = fake(batch_size=3)
    most_ahead = 0

    def pictures() -> Iterator[bytes]:
        nonlocal most_ahead
        for number in range(40):
            most_ahead = max(most_ahead, number - sum(model.batches))
            yield PICTURES[number % len(PICTURES)]

    assert len(encoder.embed(pictures())) == 40
    assert most_ahead <= 2 * 3 + 1


def test_an_embedding_without_a_direction_is_rejected_alone():
    class Partly(FakeEncoder):
        def encode(self, pixels: np.ndarray) -> np.ndarray:
            features = super().encode(pixels)
            features[pixels.max(axis=(1, 2, 3)) == 0] = np.nan
            return features

    black = encoded(photo(32, 32).point(lambda _: 0), "PNG")
    found = PictureEncoder(FakeEncoderSource()._spec(), Partly()).embed([PICTURES[0], black, PICTURES[1]])
    assert reasons(found) == [None, Reason.NOT_FINITE, None]


def test_a_part_and_a_limit_of_pixels():
    encoder, _ = fake()
    picture = photo(80, 60)
    cut = encoder.decode(encoded(picture, "PNG"), Box(10, 5, 30, 40))
    whole = encoder.decode(encoded(picture.crop((10, 5, 40, 45)), "PNG"))
    np.testing.assert_array_equal(cut.pixels, whole.pixels)
    assert (cut.width, cut.height) == (80, 60)
    with pytest.raises(ValueError, match="crop: expected "):
        encoder.decode(encoded(picture, "PNG"), Box(80, 0, 5, 5))
    with pytest.raises(Rejected, match="too_many_pixels"):
        encoder.decode(encoded(picture, "PNG"), max_pixels=80 * 60 - 1)


def test_a_picture_that_found_too_little_memory_beside_others_is_tried_again_alone(monkeypatch):
    encoder, _ = fake()
    decode = encoder.decode
    failed: list[bytes] = []

    def fail_once(data: bytes) -> Picture:
        if data is PICTURES[2] and not failed:
            failed.append(data)
            raise MemoryError
        return decode(data)

    monkeypatch.setattr(encoder, "decode", fail_once)
    assert reasons(encoder.embed(PICTURES)) == [None] * 11
    assert failed


def test_where_memory_lacks_all_the_same_it_is_one_line_about_this_process(monkeypatch):
    encoder, _ = fake()

    def fail(data: bytes) -> Picture:
        raise MemoryError

    monkeypatch.setattr(encoder, "decode", fail)
    with pytest.raises(ShortageError, match="no memory left") as caught:
        encoder.embed(PICTURES)
    assert caught.value.lack is Lack.MEMORY


def test_a_model_that_fails_is_no_reject():
    class Broken(FakeEncoder):
        def encode(self, pixels: np.ndarray) -> np.ndarray:
            raise RuntimeError("the device is gone")

    with pytest.raises(RuntimeError, match="the device is gone"):
        PictureEncoder(FakeEncoderSource()._spec(), Broken()).embed(PICTURES)


def test_missing_weights_are_one_line_that_names_the_file(copied):
    copied.weights_file().unlink()
    with pytest.raises(StoreError) as caught:
        PictureEncoder.open(Store(copied.uri), copied.encoder)
    assert str(copied.weights_file()) in str(caught.value)
    assert "found no file" in str(caught.value)


def test_weights_of_another_model_under_this_name_are_refused(copied):
    from encoder.backbones import build_model, find_backbone

    model = build_model(find_backbone("mobilenetv3small"), 64)
    fill_randomly(model, seed=4)
    copied.weights_file().unlink()
    model.save_weights(copied.weights_file())
    with pytest.raises(StoreError) as caught:
        PictureEncoder.open(Store(copied.uri), copied.encoder)
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
        PictureEncoder.open(Store(copied.uri), copied.encoder)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_encoder_of_another_fingerprint_is_refused(small):
    with pytest.raises(StoreError, match="expected fingerprint"):
        PictureEncoder.open(Store(small.uri), {**small.encoder, "resize": "crop"})
