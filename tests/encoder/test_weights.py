"""Weights from a seed or from any file people have: the same numbers, the same digest."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoder.backbones import Backbone, build_model, find_backbone
from encoder.tensorflow import keras
from encoder.weights import fill_randomly, fold_imagenet_rescaling, resolve_weights, weights_digest
from store.errors import UserError

SMALL = find_backbone("MobileNetV3Small")
SIZE = 64


def _random_model(constructor: Callable[..., Any], seed: int, **options: Any) -> Any:
    model = constructor(weights=None, input_shape=(SIZE, SIZE, 3), **options)
    fill_randomly(model, seed)
    return model


@pytest.fixture(scope="module")
def classifier() -> Any:
    """A MobileNetV3Small with its head, as people train them."""
    return _random_model(keras().applications.MobileNetV3Small, 5, include_top=True, classes=7)


@pytest.fixture(scope="module")
def classifier_digest(classifier: Any) -> str:
    """Of the part without the head, by layer name."""
    headless = build_model(SMALL, SIZE)
    for layer in (layer for layer in headless.layers if layer.weights):
        layer.set_weights(classifier.get_layer(layer.name).get_weights())
    return weights_digest(headless)


def test_a_seed_gives_the_same_numbers_everywhere(tmp_path: Path) -> None:
    resolved = resolve_weights("random", SMALL, SIZE, tmp_path)
    assert resolved.sha256 == "22465df36848ba1433d1ab18036686a0a0d008222d527d4cf05cb5d78a172fac"
    assert (resolved.label, resolved.trained, resolved.embedding_dim) == ("random:0", False, 576)
    assert resolved.path == tmp_path / f"{resolved.sha256}.weights.h5"
    assert resolved.path.is_file()
    assert [path.name for path in tmp_path.iterdir()] == [resolved.path.name]


def test_seeds_differ(tmp_path: Path) -> None:
    one, two = (resolve_weights(f"random:{seed}", SMALL, SIZE, tmp_path) for seed in (1, 2))
    assert one.sha256 != two.sha256
    assert one.label == "random:1"


def test_a_seed_that_is_no_number(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"random:SEED.*'random:x'"):
        resolve_weights("random:x", SMALL, SIZE, tmp_path)


@pytest.mark.parametrize("name", ["w.weights.h5", "w.keras", "whole.h5"])
def test_every_container_of_a_classifier_gives_the_headless_digest(
    name: str, classifier: Any, classifier_digest: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    (classifier.save_weights if name.endswith(".weights.h5") else classifier.save)(path)
    resolved = resolve_weights(str(path), SMALL, SIZE, tmp_path / "out")
    assert (resolved.sha256, resolved.label, resolved.trained) == (classifier_digest, name, True)


def test_old_weights_only_file(classifier: Any, classifier_digest: str, tmp_path: Path) -> None:
    import h5py
    from keras.src.legacy.saving import legacy_h5_format

    path = tmp_path / "old.h5"
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, classifier)
    assert resolve_weights(str(path), SMALL, SIZE, tmp_path).sha256 == classifier_digest


@pytest.mark.parametrize("name", ["w.keras", "whole.h5"])
def test_a_backbone_nested_in_a_classifier(name: str, tmp_path: Path) -> None:
    layers = keras().layers
    backbone = _random_model(keras().applications.MobileNetV3Small, 9, include_top=False, pooling="avg")
    model = keras().Sequential([layers.Input((SIZE, SIZE, 3)), layers.Dropout(0.1), backbone, layers.Dense(3)])
    path = tmp_path / name
    (model.save_weights if name.endswith(".weights.h5") else model.save)(path)
    assert resolve_weights(str(path), SMALL, SIZE, tmp_path).sha256 == weights_digest(backbone)


def test_a_stored_file_gives_itself(tmp_path: Path) -> None:
    first = resolve_weights("random:3", SMALL, SIZE, tmp_path)
    again = resolve_weights(str(first.path), SMALL, SIZE, tmp_path)
    assert (again.sha256, again.path) == (first.sha256, first.path)


def test_numbered_layer_names_do_not_matter(tmp_path: Path) -> None:
    """InceptionV3 names its layers conv2d_17 by how many were built before."""
    inception = find_backbone("InceptionV3")
    model = build_model(inception, 75)
    fill_randomly(model, 4)
    path = tmp_path / "whole.h5"
    model.save(path)
    assert resolve_weights(str(path), inception, 75, tmp_path).sha256 == weights_digest(model)


@pytest.mark.parametrize("name", ["w.weights.h5", "whole.h5"])
def test_another_architecture_names_both_shapes(name: str, classifier: Any, tmp_path: Path) -> None:
    path = tmp_path / name
    (classifier.save_weights if name.endswith(".weights.h5") else classifier.save)(path)
    with pytest.raises(
        UserError, match=r"expected MobileNetV2 .*shape \((3, 3, 3, )?32,?\), found shape \((3, 3, 3, )?16,?\)"
    ):
        resolve_weights(str(path), find_backbone("mobilenetv2"), SIZE, tmp_path)


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found no file"):
        resolve_weights(str(tmp_path / "absent.h5"), SMALL, SIZE, tmp_path)
    damaged = tmp_path / "damaged.keras"
    damaged.write_bytes(b"not a model")
    with pytest.raises(UserError, match="could not read it"):
        resolve_weights(str(damaged), SMALL, SIZE, tmp_path)


def test_truncated_file(tmp_path: Path) -> None:
    whole = resolve_weights("random", SMALL, SIZE, tmp_path).path
    cut = tmp_path / "cut.weights.h5"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(UserError, match="could not read it"):
        resolve_weights(str(cut), SMALL, SIZE, tmp_path)


def test_lambda_layers_are_refused(tmp_path: Path) -> None:
    layers = keras().layers
    model = keras().Sequential([layers.Input((4,)), layers.Lambda(lambda x: x * 2), layers.Dense(2)])
    model.save(tmp_path / "lambda.keras")
    with pytest.raises(UserError, match="Lambda"):
        resolve_weights(str(tmp_path / "lambda.keras"), SMALL, SIZE, tmp_path)


def test_a_failed_download_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", refuse)
    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: str(tmp_path))
    with pytest.raises(UserError, match=r"--weights PATH.*--weights random") as caught:
        resolve_weights("imagenet", SMALL, SIZE, tmp_path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_efficientnet_imagenet_rescaling_is_folded(tmp_path: Path) -> None:
    """Keras adds a layer to EfficientNetB0 for ImageNet weights only; the stored weights make up for it."""
    backbone = Backbone("EfficientNetB0", 64, "efficientnet")
    model = build_model(backbone, 64)
    fill_randomly(model, 0)
    normalization = model.get_layer(index=2)
    normalization.adapt_mean.assign([0.4, 0.5, 0.6])
    normalization.adapt_variance.assign([0.2, 0.3, 0.1])
    normalization.finalize_state()
    scale = np.asarray([1.5, 2.0, 2.5], np.float32)
    layers = keras().layers
    inputs = layers.Input((64, 64, 3))
    normalized = normalization(model.layers[1](inputs))
    published = keras().Model(inputs, layers.Rescaling(scale)(normalized))
    pictures = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.float32)
    expected = published(pictures).numpy()
    fold_imagenet_rescaling(model, published)
    model.save_weights(tmp_path / "folded.weights.h5")
    loaded = build_model(backbone, 64)
    loaded.load_weights(tmp_path / "folded.weights.h5")
    found = keras().Model(loaded.input, loaded.layers[2].output)(pictures).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
