"""Pixels to embeddings: the model with its preprocessing inside, compiled for the hardware at hand."""

from __future__ import annotations

import collections
import dataclasses
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from encoder.backbones import build_model, find_backbone, preprocess_input
from encoder.plain_hdf5 import check_plain_hdf5
from encoder.precision import MIN_COSINE, check_precision, fastest_precision
from encoder.spec import EncoderSpec
from encoder.tensorflow import has_gpu, tensorflow
from encoder.weights import weights_digest
from store.errors import StoreError

Pixels = npt.NDArray[np.uint8]
Embeddings = npt.NDArray[np.float32]

_LOAD = threading.Lock()
# Constants live inside a graph definition, which protobuf limits to 2 GiB.
_MAX_FROZEN_BYTES = 1 << 30


class Encoder(Protocol):
    """Turns pictures into raw, average-pooled features. Safe to share between threads."""

    @property
    def embedding_dim(self) -> int:
        """Length D of an embedding."""
        ...

    @property
    def batch_size(self) -> int:
        """Pictures per batch that suit the hardware."""
        ...

    def encode(self, pixels: Pixels) -> Embeddings:
        """uint8[n, S, S, 3] RGB pictures, n <= batch_size, to float32[n, D]; a row may be not finite."""
        ...


class KerasEncoder:
    """A Keras backbone, compiled. Made by `load_encoder`."""

    def __init__(self, model: _CompiledModel, batch_size: int) -> None:
        self.embedding_dim = model.embedding_dim
        self.batch_size = batch_size
        self._model = model
        self._fitting_batch_size = batch_size

    def encode(self, pixels: Pixels) -> Embeddings:
        """uint8[n, S, S, 3] RGB pictures, n <= batch_size, to float32[n, D]; a row may be not finite.

        Raises:
            tf.errors.ResourceExhaustedError: The device cannot hold even one picture.
        """
        if not len(pixels):
            return np.empty((0, self.embedding_dim), np.float32)
        exhausted = tensorflow().errors.ResourceExhaustedError
        embeddings, fitting = encode_halving(self._model.encode, pixels, self._fitting_batch_size, exhausted)
        # Shrinks only, so threads that write at the same time agree in the end.
        self._fitting_batch_size = min(fitting, self._fitting_batch_size)
        return embeddings


def load_encoder(spec: EncoderSpec, weights_path: Path, batch_size: int) -> KerasEncoder:
    """The encoder of a spec; its model is built once per process, whichever thread asks first.

    A model lives for as long as one of its encoders does; the one asked for last lives until another is.

    Args:
        spec: What to load; its weights digest is checked against the file.
        weights_path: A headless `.weights.h5`, as `encoder.weights.resolve_weights` makes them.
        batch_size: Pictures per batch. More costs memory (ResNet50 in float32: about 30 MB a picture) and buys speed
            up to 32 or so on a processor and a few hundred on a GPU.

    Raises:
        StoreError: The weights cannot be read, or are not the spec's.
    """
    with _LOAD:
        return KerasEncoder(_compiled(spec, weights_path), batch_size)


def default_batch_size() -> int:
    """Pictures per batch that suit this process's hardware."""
    return 256 if has_gpu() else 32


def choose_precision(requested: str, spec: EncoderSpec, weights_path: Path, pixels: Pixels) -> tuple[str, str | None]:
    """The precision to embed in, and a warning where the fastest one had to be given up.

    Args:
        requested: "auto", or a precision to take as it is.
        spec: The encoder; its precision is ignored.
        weights_path: The spec's weights.
        pixels: uint8[n, S, S, 3] pictures of the catalog to try the precision on; a few suffice.

    Raises:
        StoreError: The weights cannot be read, or are not the spec's.
    """
    if requested != "auto":
        return requested, None
    fastest = fastest_precision()
    if fastest == "float32" or not len(pixels):
        return fastest, None
    candidate = load_encoder(dataclasses.replace(spec, precision=fastest), weights_path, default_batch_size())
    cosine = check_precision(encode_plainly(spec, weights_path, pixels), candidate.encode(pixels))
    if cosine >= MIN_COSINE:
        return fastest, None
    warning = (
        f"{fastest} embeddings differ from float32: expected a cosine of at least {MIN_COSINE} on {len(pixels)} "
        f"pictures, found {cosine:.4f}; using float32"
    )
    return "float32", warning


def encode_plainly(spec: EncoderSpec, weights_path: Path, pixels: Pixels) -> Embeddings:
    """float32[n, D] embeddings to hold other precisions against, without compiling: quicker than tracing for one batch.

    Args:
        spec: The encoder; its precision is ignored.
        weights_path: The spec's weights.
        pixels: uint8[n, S, S, 3] pictures, n > 0.

    Raises:
        StoreError: The weights cannot be read, or are not the spec's.
    """
    spec = dataclasses.replace(spec, precision="float32")
    encode = _body(spec, _load_model(spec, weights_path), frozen=False)
    return np.concatenate([encode(pixels[start : start + 32]).numpy() for start in range(0, len(pixels), 32)])


def encode_halving(
    encode: Callable[[Pixels, int], Embeddings], pixels: Pixels, batch_size: int, exhausted: type[Exception]
) -> tuple[Embeddings, int]:
    """Encodes in batches, halving them for as long as the device runs out of memory.

    Args:
        encode: Called with at most `size` pictures and `size`, the batch shape to compute in.
        pixels: uint8[n, ...], n > 0.
        batch_size: Where to start.
        exhausted: What `encode` raises when memory runs out.

    Returns:
        float32[n, D], and the batch size that fitted.

    Raises:
        Exception: `exhausted`, from a batch of one.
    """
    while True:
        starts = range(0, len(pixels), batch_size)
        try:
            parts = [encode(pixels[start : start + batch_size], batch_size) for start in starts]
        except exhausted:
            if batch_size == 1:
                raise
            batch_size //= 2
        else:
            return np.concatenate(parts), batch_size


@dataclasses.dataclass(frozen=True)
class _CompiledModel:
    """A traced function of uint8[n, S, S, 3], and whether it wants every batch in one shape."""

    function: Callable[[Any], Any]
    embedding_dim: int
    fixed_shape: bool

    def encode(self, pixels: Pixels, size: int) -> Embeddings:
        count = len(pixels)
        if self.fixed_shape and count < size:
            pixels = np.concatenate([pixels, np.zeros((size - count, *pixels.shape[1:]), np.uint8)])
        embeddings: Embeddings = self.function(tensorflow().constant(pixels)).numpy()
        return embeddings[:count]


# Models in use, each held by its encoders, and the one asked for last, which may be wanted again: a run tries a
# precision and then embeds in it, and a worker goes on after a bundle that failed.
_IN_USE: weakref.WeakValueDictionary[tuple[EncoderSpec, Path], _CompiledModel] = weakref.WeakValueDictionary()
_LATEST: collections.deque[_CompiledModel] = collections.deque(maxlen=1)


def _compiled(spec: EncoderSpec, weights_path: Path) -> _CompiledModel:
    """A model that is there already, or a new one; for one thread at a time."""
    model = _IN_USE.get((spec, weights_path))
    if model is None:
        _LATEST.clear()  # its memory is free for the new one
        model = _IN_USE[spec, weights_path] = _compile(spec, weights_path)
    _LATEST.append(model)
    return model


def _compile(spec: EncoderSpec, weights_path: Path) -> _CompiledModel:
    model, on_gpu = _load_model(spec, weights_path), has_gpu()
    size_bytes = 4 * model.count_params()
    tf = tensorflow()
    function = tf.function(
        _body(spec, model, frozen=not on_gpu and size_bytes <= _MAX_FROZEN_BYTES),
        input_signature=[tf.TensorSpec([None, spec.image_size, spec.image_size, 3], tf.uint8)],
        autograph=False,
        jit_compile=True if on_gpu else None,
    ).get_concrete_function()
    return _CompiledModel(function, spec.embedding_dim, fixed_shape=on_gpu)


def _load_model(spec: EncoderSpec, weights_path: Path) -> Any:
    """The spec's Keras model with its weights, checked."""
    model = build_model(find_backbone(spec.backbone), spec.image_size, spec.precision)
    try:
        check_plain_hdf5(weights_path)
        model.load_weights(weights_path)
    except (OSError, ValueError, KeyError) as error:
        detail = " ".join(str(error).split())
        raise StoreError(
            f"{weights_path}: expected the weights of {spec.backbone}, could not read them: {detail}"
        ) from error
    found = weights_digest(model)
    if found != spec.weights_sha256:
        raise StoreError(
            f"{weights_path}: expected weights with digest {spec.weights_sha256[:12]}, found {found[:12]}; "
            "restore the file or embed again"
        )
    return model


def _body(spec: EncoderSpec, model: Any, *, frozen: bool) -> Callable[[Any], Any]:
    """The function to trace: preprocessing, model, float32 out.

    A frozen one has the weights as constants, which lets TensorFlow fold and pre-pack them: 33 pictures/s instead of
    28 with ResNet50 on two cores. It holds on to no variable, so the Keras model can go.
    """
    tf = tensorflow()
    preprocess = preprocess_input(find_backbone(spec.backbone))
    trainable = [variable.numpy() for variable in model.trainable_variables] if frozen else []
    others = [variable.numpy() for variable in model.non_trainable_variables] if frozen else []

    def encode(pixels: Any) -> Any:
        inputs = preprocess(tf.cast(pixels, tf.float32))
        if frozen:
            constants = [[tf.constant(array) for array in arrays] for arrays in (trainable, others)]
            outputs, _ = model.stateless_call(*constants, inputs, training=False)
        else:
            outputs = model(inputs, training=False)
        return tf.cast(outputs, tf.float32)

    return encode
