"""Where a model's weights come from: ImageNet, a seed, or a file; always ending as one file named by its content."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import math
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from encoder.backbones import Backbone, build_model
from encoder.spec import POOLING
from encoder.tensorflow import keras
from encoder.weight_files import fill_from_file
from store.errors import UserError

_DOWNLOAD_TIMEOUT_S = 20.0


@dataclasses.dataclass(frozen=True, slots=True)
class ResolvedWeights:
    """Weights on the local disk.

    Attributes:
        path: A headless `.weights.h5`, named by the digest.
        sha256: `weights_digest` of the content.
        label: What to call them: "imagenet", "random:SEED" or the file's name.
        trained: False where the numbers are random: such embeddings show that a pipeline works, not what looks alike.
        embedding_dim: Length of the embeddings they give.
    """

    path: Path
    sha256: str
    label: str
    trained: bool
    embedding_dim: int


def resolve_weights(source: str, backbone: Backbone, image_size: int, directory: Path) -> ResolvedWeights:
    """Brings weights into a folder.

    Args:
        source: "imagenet" (downloaded), "random" or "random:SEED", or a file: `.weights.h5`, `.h5` or `.keras`, with
            or without a classification head.
        backbone: The architecture they must fit.
        image_size: Side of the square input, in pixels.
        directory: Where `<sha256>.weights.h5` is written; made if need be.

    Raises:
        UserError: The download failed, the seed is no number, or the file is missing, damaged or of another model.
    """
    if source == "imagenet":
        model, label, trained = _imagenet_model(backbone), source, True
    elif source == "random" or source.startswith("random:"):
        seed = _seed(source)
        model, label, trained = build_model(backbone, image_size), f"random:{seed}", False
        fill_randomly(model, seed)
    else:
        model, label, trained = build_model(backbone, image_size), Path(source).name, True
        fill_from_file(model, Path(source), backbone.name)
    sha256 = weights_digest(model)
    path = directory / f"{sha256}.weights.h5"
    _save(model, path)
    return ResolvedWeights(path, sha256, label, trained, int(model.output_shape[-1]))


def weights_digest(model: Any) -> str:
    """Hex SHA-256 over shape, dtype and bytes of every weight in the model's order, whatever file they came from."""
    digest = hashlib.sha256()
    for weight in model.weights:
        array = np.ascontiguousarray(weight.numpy())
        little_endian = array.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(f"{array.shape}{array.dtype.name}".encode())
        digest.update(little_endian.tobytes())
    return digest.hexdigest()


def fill_randomly(model: Any, seed: int) -> None:
    """Gives kernels uniform random weights, of variance 1 / fan-in, and leaves the rest as built.

    That is LeCun et al. 1998, "Efficient BackProp", section 4.6; the larger variance of He et al. 2015 takes ResNet50,
    whose normalisation layers have seen no data, past what float16 can hold. The draws are NumPy's and uniform, so
    every machine gets the same bits: a normal draw goes through the platform's logarithm.
    """
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        shape = tuple(weight.shape)
        if len(shape) < 2:
            continue
        depthwise = len(shape) == 4 and shape[-1] == 1
        fan_in = math.prod(shape[:-2]) * (1 if depthwise else shape[-2])
        limit = math.sqrt(3 / fan_in)
        weight.assign(((rng.random(shape) * 2 - 1) * limit).astype(np.float32))


def _seed(source: str) -> int:
    _, _, text = source.partition(":")
    if text and not text.isdecimal():
        raise UserError(f"--weights: expected random:SEED with a whole number from 0 up, found {source!r}")
    return int(text or 0)


def _imagenet_model(backbone: Backbone) -> Any:
    """The published weights, in the architecture that `build_model` makes."""
    size = backbone.default_image_size
    constructor = getattr(keras().applications, backbone.name)
    try:
        with _quiet_download():
            published = constructor(weights="imagenet", include_top=False, pooling=POOLING, input_shape=(size, size, 3))
    except Exception as error:  # Keras raises a bare Exception when a download fails.
        detail = " ".join(str(error).split())
        raise UserError(
            f"--weights imagenet: could not download the weights of {backbone.name} ({detail}); give a file with "
            "--weights PATH, or try the pipeline with --weights random"
        ) from error
    model = build_model(backbone, size)
    model.set_weights(published.get_weights())
    fold_imagenet_rescaling(model, published)
    return model


def fold_imagenet_rescaling(model: Any, published: Any) -> None:
    """Moves a rescaling that only the published model has into the normalisation before it.

    Keras gives EfficientNetB0 to B7 one more Rescaling after Normalization when, and only when, it is asked for
    ImageNet weights. Dividing by s after (x - mean) / sqrt(variance) is the same as a variance s * s times larger.
    """
    layers = keras().layers
    scales = [layer.scale for layer in published.layers if isinstance(layer, layers.Rescaling)]
    own = [layer for layer in model.layers if isinstance(layer, layers.Rescaling)]
    if len(scales) == len(own):
        return
    (normalization,) = (layer for layer in model.layers if isinstance(layer, layers.Normalization))
    # The variables, not the layer's cached constants: loading the saved file refreshes those.
    variance = normalization.adapt_variance
    variance.assign(variance.numpy() / np.square(np.asarray(scales[-1], np.float32)))


@contextlib.contextmanager
def _quiet_download() -> Iterator[None]:
    """Keeps Keras's progress bar off stdout, and gives up on a silent server."""
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_DOWNLOAD_TIMEOUT_S)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        socket.setdefaulttimeout(timeout)


def _save(model: Any, path: Path) -> None:
    """Writes a `.weights.h5`, unless it is there; a reader never sees half of it."""
    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        partial = Path(folder) / path.name
        model.save_weights(partial)
        os.replace(partial, path)
