from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from encoder.backbones import build_model, find_backbone
from encoder.source import KerasEncoderSource, check_loaded, load_checked, open_source, publish_weights
from encoder.spec import EncoderSpec
from encoder.weights import fill_randomly, weights_digest
from store.errors import StoreError
from store.location import Store

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), np.uint8)


class Recorded:
    """An encoder that answers with given features, in batches of two."""

    batch_size = 2

    def __init__(self, features: np.ndarray) -> None:
        self.embedding_dim = features.shape[1]
        self._waiting = list(features)

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        assert len(pixels) <= self.batch_size
        answered, self._waiting = self._waiting[: len(pixels)], self._waiting[len(pixels) :]
        return np.stack(answered)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> KerasEncoderSource:
    folder = tmp_path_factory.mktemp("source")
    model = build_model(find_backbone("mobilenetv3small"), 64)
    fill_randomly(model, seed=3)
    model.save_weights(folder / "some.weights.h5")
    digest, store = weights_digest(model), Store(str(folder / "store"))
    publish_weights(store, folder / "some.weights.h5", digest)
    spec = EncoderSpec("MobileNetV3Small", "random:3", digest, "bfloat16", 64, "pad", 576)
    return open_source(store, spec.to_manifest())


@pytest.fixture(scope="module")
def reference(source: KerasEncoderSource) -> np.ndarray:
    plain = dataclasses.replace(source.spec, precision="float32")
    return load_checked(open_source(source.store, plain.to_manifest())).encode(PIXELS)


def test_the_manifests_precision_is_loaded(source: KerasEncoderSource, reference: np.ndarray) -> None:
    assert (source.spec.precision, source.precision) == ("bfloat16", "bfloat16")
    found = load_checked(source).encode(PIXELS)
    assert 0 < np.abs(found - reference).max() < 0.1 * np.abs(reference).max()


def test_embeddings_as_good_as_float32_pass(source: KerasEncoderSource, reference: np.ndarray) -> None:
    check_loaded(source, Recorded(reference * np.float32(1.01)), PIXELS)


def test_embeddings_unlike_float32_are_refused_with_both_numbers(
    source: KerasEncoderSource, reference: np.ndarray
) -> None:
    wrong = reference.copy()
    wrong[4] = -wrong[4]
    expected = (
        r"^bfloat16 embeddings: expected a cosine of at least 0\.999 .*found -1\.0000 on this machine's processor"
    )
    with pytest.raises(StoreError, match=expected):
        check_loaded(source, Recorded(wrong), PIXELS)


def test_float32_is_not_compared_with_itself(source: KerasEncoderSource) -> None:
    plain = dataclasses.replace(source, spec=dataclasses.replace(source.spec, precision="float32"))
    check_loaded(plain, Recorded(np.full((5, 576), np.nan, np.float32)), PIXELS)


def test_missing_weights_are_named(source: KerasEncoderSource, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"weights\.h5: expected the weights .* found no file"):
        load_checked(dataclasses.replace(source, store=Store(str(tmp_path))))
