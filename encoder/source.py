"""Where a worker gets its encoder from: the store's weights, the chosen precision, one model per process."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from encoder.model import (
    Encoder,
    KerasEncoder,
    choose_precision,
    default_batch_size,
    encode_plainly,
    load_encoder,
)
from encoder.precision import MIN_COSINE, check_precision
from encoder.spec import EncoderSpec
from store.errors import StoreError
from store.inner_paths import locate
from store.location import Store

_WEIGHTS, _SUFFIX = "weights", ".weights.h5"
_SHA256 = re.compile(r"[0-9a-f]{64}")

PRECISIONS = ("auto", "float32", "bfloat16", "float16")


def weights_path(sha256: str) -> str:
    """Where weights lie, relative to the store.

    Raises:
        StoreError: It is no SHA-256 in hex, and could lead anywhere.
    """
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise StoreError(f"weights_sha256: expected 64 hex digits, found {sha256!r:.80}")
    return f"{_WEIGHTS}/{sha256}{_SUFFIX}"


def publish_weights(store: Store, local: Path, sha256: str) -> None:
    """Copies weights into the store under their digest, unless they are there already.

    Raises:
        StoreError: The store cannot be written.
    """
    path = weights_path(sha256)
    if store.size_bytes(path) != local.stat().st_size:
        store.replace(path, local.read_bytes())


def fetch_weights(store: Store, sha256: str) -> Path:
    """A local copy of a store's weights, fetched once per machine.

    Raises:
        FileNotFoundError: The store has no such weights.
        StoreError: The digest is none, or the file is a link that leads out of the store's weights.
    """
    path = locate(store, _WEIGHTS, Path(weights_path(sha256)).name)
    direct = store.local_path(path)
    if direct is not None and direct.is_file():
        return direct
    cached = Path(tempfile.gettempdir()) / "shelfmark-weights" / f"{sha256}{_SUFFIX}"
    if not cached.is_file():
        cached.parent.mkdir(parents=True, exist_ok=True)
        descriptor, partial = tempfile.mkstemp(dir=cached.parent)
        with os.fdopen(descriptor, "wb") as target, store.open(path) as source:
            shutil.copyfileobj(source, target)
        os.replace(partial, cached)
    return cached


@dataclasses.dataclass(frozen=True, slots=True)
class KerasEncoderSource:
    """A Keras backbone whose weights lie in the store.

    Attributes:
        store: Holds the weights.
        spec: The encoder; its precision stands only where `precision` is not "auto".
        precision: As asked for.
        batch_size: Pictures per batch, or 0 for what suits the worker's hardware.
    """

    store: Store
    spec: EncoderSpec
    precision: str = "auto"
    batch_size: int = 0

    @property
    def image_size(self) -> int:
        """Side of the square pictures the encoder takes, in pixels."""
        return self.spec.image_size

    @property
    def resize(self) -> str:
        """How pictures become squares: one of encoder.decode.RESIZE_MODES."""
        return self.spec.resize

    @property
    def fixed_spec(self) -> EncoderSpec | None:
        """The spec, where the precision was given."""
        return None if self.precision == "auto" else dataclasses.replace(self.spec, precision=self.precision)

    def choose(self, pixels: npt.NDArray[np.uint8]) -> tuple[EncoderSpec, str]:
        """The spec for this hardware, checked on uint8[n, S, S, 3] pictures, and a warning or ""."""
        path = fetch_weights(self.store, self.spec.weights_sha256)
        precision, warning = choose_precision(self.precision, self.spec, path, pixels)
        return dataclasses.replace(self.spec, precision=precision), warning or ""

    def load(self, spec: EncoderSpec) -> KerasEncoder:
        """The model, one per process."""
        path = fetch_weights(self.store, spec.weights_sha256)
        return load_encoder(spec, path, self.batch_size or default_batch_size())


def open_source(store: Store, encoder: Mapping[str, Any]) -> KerasEncoderSource:
    """The encoder that a manifest's `encoder` entry names, in the precision the catalog was embedded in.

    Args:
        store: Holds the weights.
        encoder: An index's or a snapshot's `encoder` entry.

    Raises:
        StoreError: The entry is incomplete, or of another fingerprint than its fields have in this release.
    """
    spec = EncoderSpec.from_manifest(encoder)
    return KerasEncoderSource(store, spec, precision=spec.precision)


def load_checked(source: KerasEncoderSource) -> Encoder:
    """The model, its weights fetched from the store and checked against the digest in the spec.

    Raises:
        StoreError: The weights are missing, damaged or others; the message names the file.
    """
    try:
        return source.load(source.spec)
    except FileNotFoundError as error:
        path = source.store.full_path(weights_path(source.spec.weights_sha256))
        raise StoreError(
            f"{path}: expected the weights the catalog was embedded with, found no file; restore it or embed again"
        ) from error


def check_loaded(source: KerasEncoderSource, encoder: Encoder, pixels: npt.NDArray[np.uint8]) -> None:
    """Makes sure that this machine computes the catalog's precision well enough to answer in it.

    Args:
        source: As `open_source` gives it.
        encoder: As `load_checked` gives it.
        pixels: uint8[n, S, S, 3] pictures to try it on, n > 0; a few suffice.

    Raises:
        StoreError: Its embeddings are not those of float32; or as `load_checked`.
    """
    spec = source.spec
    if spec.precision == "float32":
        return
    reference = encode_plainly(spec, fetch_weights(source.store, spec.weights_sha256), pixels)
    starts = range(0, len(pixels), encoder.batch_size)
    found = np.concatenate([encoder.encode(pixels[start : start + encoder.batch_size]) for start in starts])
    cosine = check_precision(reference, found)
    if cosine < MIN_COSINE:
        raise StoreError(
            f"{spec.precision} embeddings: expected a cosine of at least {MIN_COSINE} with those of float32, found "
            f"{cosine:.4f} on this machine's processor; use a machine like the one the catalog was embedded on, or "
            "embed the catalog again with --precision float32"
        )
