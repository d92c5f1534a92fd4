"""The compiled model against plain Keras, its cache, its batches and its choice of precision."""

from __future__ import annotations

import dataclasses
import gc
import shutil
import threading
import weakref
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import encoder.model
from encoder.backbones import build_model, find_backbone, preprocess_input
from encoder.model import choose_precision, encode_halving, load_encoder
from encoder.precision import check_precision
from encoder.spec import EncoderSpec
from encoder.tensorflow import tensorflow
from encoder.weights import fill_randomly, resolve_weights, weights_digest
from store.errors import StoreError


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[EncoderSpec, Path]:
    """A small encoder's spec and weights."""
    backbone = find_backbone("MobileNetV3Small")
    resolved = resolve_weights("random", backbone, 64, tmp_path_factory.mktemp("weights"))
    spec = EncoderSpec(backbone.name, resolved.label, resolved.sha256, "float32", 64, "crop", resolved.embedding_dim)
    return spec, resolved.path


def _pictures(count: int, size: int, seed: int = 0) -> np.ndarray:
    """Smooth pictures, uint8[count, size, size, 3], more like photos than noise is."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3))
    return np.kron(coarse, np.ones((1, size // 4, size // 4, 1))).astype(np.uint8)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("MobileNetV3Small", 64),
        ("VGG16", 32),
        ("EfficientNetV2B0", 32),
        pytest.param("ConvNeXtTiny", 32, marks=pytest.mark.slow),
        ("ResNet50", 64),
    ],
)
def test_embeddings_are_those_of_plain_keras(name: str, size: int, tmp_path: Path) -> None:
    backbone, path, pictures = find_backbone(name), tmp_path / "own.weights.h5", _pictures(5, size)
    model = build_model(backbone, size)
    fill_randomly(model, 1)
    model.save_weights(path)
    spec = EncoderSpec(name, "own", weights_digest(model), "float32", size, "crop", model.output_shape[-1])
    expected = model(preprocess_input(backbone)(pictures.astype(np.float32)), training=False).numpy()
    found = load_encoder(spec, path, 8).encode(pictures)
    assert found.dtype == np.float32
    assert found.shape == (5, spec.embedding_dim)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    assert check_precision(np.roll(found, 1, axis=0), found) < 0.9999, "different pictures embed differently"


def test_low_precision_stays_close(small: tuple[EncoderSpec, Path]) -> None:
    spec, path = small
    pictures = _pictures(4, 64)
    low = load_encoder(dataclasses.replace(spec, precision="bfloat16"), path, 4).encode(pictures)
    assert low.dtype == np.float32
    cosine = check_precision(load_encoder(spec, path, 4).encode(pictures), low)
    assert 0.99 < cosine < 1.0


def test_no_pictures_give_no_rows(small: tuple[EncoderSpec, Path]) -> None:
    spec, path = small
    assert load_encoder(spec, path, 4).encode(_pictures(0, 64)).shape == (0, spec.embedding_dim)


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Precisions of the models that were built, of none before."""
    built: list[str] = []
    load_model = encoder.model._load_model

    def counted(spec: EncoderSpec, weights_path: Path) -> object:
        built.append(spec.precision)
        return load_model(spec, weights_path)

    monkeypatch.setattr(encoder.model, "_load_model", counted)
    encoder.model._LATEST.clear()
    encoder.model._IN_USE.clear()
    return built


def test_threads_share_one_model(small: tuple[EncoderSpec, Path], builds: list[str]) -> None:
    spec, path = small
    pictures, found = _pictures(3, 64), {}

    def work(thread: int) -> None:
        found[thread] = load_encoder(spec, path, 4).encode(pictures)

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert builds == ["float32"]
    assert len(found) == 3
    np.testing.assert_allclose(found[0], found[2], rtol=1e-4)


def test_a_model_goes_when_nobody_uses_it_and_another_was_asked_for(
    small: tuple[EncoderSpec, Path], builds: list[str]
) -> None:
    spec, path = small
    low = dataclasses.replace(spec, precision="bfloat16")
    first = load_encoder(spec, path, 4)
    model = weakref.ref(first._model)
    second = load_encoder(low, path, 4)
    assert load_encoder(spec, path, 8)._model is first._model, "in use, although another was asked for since"
    assert load_encoder(low, path, 8)._model is second._model
    assert builds == ["float32", "bfloat16"]
    del first
    gc.collect()
    assert model() is None
    load_encoder(spec, path, 4)
    assert builds == ["float32", "bfloat16", "float32"]


def test_the_model_asked_for_last_is_there_for_who_comes_next(
    small: tuple[EncoderSpec, Path], builds: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, path = small
    monkeypatch.setattr(encoder.model, "fastest_precision", lambda: "bfloat16")
    monkeypatch.setattr(encoder.model, "MIN_COSINE", 0.9)
    precision, _ = choose_precision("auto", spec, path, _pictures(1, 64))
    for _ in range(2):
        load_encoder(dataclasses.replace(spec, precision=precision), path, 4)
        gc.collect()
    assert sorted(builds) == ["bfloat16", "float32"], "float32 is what it was compared with"


def test_other_weights_than_the_specs_are_refused(small: tuple[EncoderSpec, Path], tmp_path: Path) -> None:
    spec, path = small
    with pytest.raises(StoreError, match="expected weights with digest 0000"):
        load_encoder(dataclasses.replace(spec, weights_sha256="0" * 64), path, 4)
    damaged = tmp_path / "damaged.weights.h5"
    damaged.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(StoreError, match="could not read them"):
        load_encoder(spec, damaged, 4)


def test_a_device_that_is_full_gets_smaller_batches(
    small: tuple[EncoderSpec, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, path = small
    loaded, pictures, sizes = load_encoder(spec, path, 8), _pictures(8, 64), []
    expected = loaded.encode(pictures)
    whole = encoder.model._CompiledModel.encode

    def crowded(model: encoder.model._CompiledModel, pixels: np.ndarray, size: int) -> np.ndarray:
        sizes.append(size)
        if size > 2:
            raise tensorflow().errors.ResourceExhaustedError(None, None, "out of memory")
        return whole(model, pixels, size)

    monkeypatch.setattr(encoder.model._CompiledModel, "encode", crowded)
    np.testing.assert_allclose(loaded.encode(pictures), expected, rtol=1e-3, atol=1e-7)
    assert sizes == [8, 4, 2, 2, 2, 2]
    loaded.encode(pictures[:2])
    assert sizes[6:] == [2], "what did not fit once is not tried again"


def test_fixed_shapes_pad_and_cut() -> None:
    shapes = []

    def function(pixels: Any) -> Any:
        shapes.append(tuple(pixels.shape))
        return tensorflow().reduce_mean(tensorflow().cast(pixels, "float32"), axis=(1, 2))

    model = encoder.model._CompiledModel(function, 3, fixed_shape=True)
    pictures = _pictures(3, 4)
    np.testing.assert_allclose(model.encode(pictures, 8), pictures.mean(axis=(1, 2)), rtol=1e-5)
    assert shapes == [(8, 4, 4, 3)]


@given(st.integers(1, 40), st.integers(1, 16), st.integers(1, 16))
def test_halving_loses_no_row(count: int, batch_size: int, capacity: int) -> None:
    def encode(pixels: np.ndarray, size: int) -> np.ndarray:
        assert len(pixels) <= size
        if size > capacity:
            raise MemoryError
        return pixels.astype(np.float32) * 2

    pixels = np.arange(count * 3, dtype=np.uint8).reshape(count, 3)
    found, fitting = encode_halving(encode, pixels, batch_size, MemoryError)
    np.testing.assert_array_equal(found, pixels.astype(np.float32) * 2)
    assert fitting == batch_size or 2 * fitting + 1 > capacity
    assert fitting <= capacity


def test_halving_gives_up_at_one_picture() -> None:
    sizes = []

    def encode(pixels: np.ndarray, size: int) -> np.ndarray:
        sizes.append(size)
        raise MemoryError

    with pytest.raises(MemoryError):
        encode_halving(encode, np.zeros((4, 3), np.uint8), 4, MemoryError)
    assert sizes == [4, 2, 1]


def test_a_requested_precision_is_taken(tmp_path: Path) -> None:
    spec = EncoderSpec("ResNet50", "random:0", "0" * 64, "float32", 64, "crop", 2048)
    assert choose_precision("bfloat16", spec, tmp_path / "absent", _pictures(1, 64)) == ("bfloat16", None)


@pytest.mark.parametrize(("least", "expected"), [(0.9, "bfloat16"), (0.9999999, "float32")])
def test_auto_checks_the_fastest_precision(
    least: float, expected: str, small: tuple[EncoderSpec, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, path = small
    monkeypatch.setattr(encoder.model, "fastest_precision", lambda: "bfloat16")
    monkeypatch.setattr(encoder.model, "MIN_COSINE", least)
    precision, warning = choose_precision("auto", spec, path, _pictures(4, 64))
    assert precision == expected
    assert (warning is None) == (expected == "bfloat16")
    if warning is not None:
        assert "bfloat16 embeddings differ" in warning
        assert "found 0.9" in warning


def test_auto_where_float32_is_fastest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder.model, "fastest_precision", lambda: "float32")
    spec = EncoderSpec("ResNet50", "random:0", "0" * 64, "bfloat16", 64, "crop", 2048)
    assert choose_precision("auto", spec, tmp_path / "absent", _pictures(1, 64)) == ("float32", None)


def test_spec_round_trip_and_fingerprint() -> None:
    spec = EncoderSpec("ResNet50", "imagenet", "ab" * 32, "float32", 224, "crop", 2048)
    manifest = spec.to_manifest()
    assert list(manifest) == [
        "backbone", "weights", "weights_sha256", "precision", "image_size", "resize", "embedding_dim", "fingerprint",
    ]  # fmt: skip
    assert EncoderSpec.from_manifest(manifest) == spec
    assert dataclasses.replace(spec, weights="copy.h5").fingerprint == spec.fingerprint
    changed: list[tuple[str, Any]] = [
        ("backbone", "VGG16"),
        ("weights_sha256", "cd" * 32),
        ("precision", "bfloat16"),
        ("image_size", 160),
    ]
    for name, value in [*changed, ("resize", "squash")]:
        assert dataclasses.replace(spec, **{name: value}).fingerprint != spec.fingerprint


def test_a_manifest_that_does_not_add_up() -> None:
    manifest = EncoderSpec("ResNet50", "imagenet", "ab" * 32, "float32", 224, "crop", 2048).to_manifest()
    with pytest.raises(StoreError, match="fingerprint"):
        EncoderSpec.from_manifest({**manifest, "precision": "bfloat16"})
    with pytest.raises(StoreError, match="resize"):
        EncoderSpec.from_manifest({name: value for name, value in manifest.items() if name != "resize"})


def test_weights_that_name_other_files_are_refused_before_they_are_loaded(
    small: tuple[EncoderSpec, Path], tmp_path: Path
) -> None:
    spec, path = small
    copied = shutil.copy(path, tmp_path / path.name)
    with h5py.File(copied, "r+") as file:
        file["more"] = h5py.ExternalLink("/etc/hostname", "/")
    with pytest.raises(StoreError, match="expected HDF5 that holds its own numbers, found a link to another file"):
        load_encoder(spec, Path(copied), 4)
