"""Query pictures become embeddings through the line and the model that the catalog went through."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from encoder.decode import DecodeOptions, decode_picture
from encoder.model import Encoder
from encoder.source import KerasEncoderSource, weights_path
from encoder.spec import EncoderSpec
from store.errors import StoreError, UserError
from store.location import Store
from transforms.line import EmbeddingLine, LineLimits
from transforms.outcomes import Embedded, Job, Refused
from transforms.source_version import Fetched


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


class QueryEncoder:
    """Embeds pictures with the encoder of a manifest. Loads the model once, when it is made."""

    def __init__(self, store: Store, encoder: Mapping[str, Any]) -> None:
        """Fetches, checks and compiles.

        Args:
            store: Holds the weights.
            encoder: An index's or a snapshot's `encoder` entry.

        Raises:
            StoreError: As `open_source` and `load_checked`.
        """
        source = open_source(store, encoder)
        self._decode = functools.partial(
            decode_picture, options=DecodeOptions(source.image_size, resize=source.spec.resize)
        )
        self._encoder = load_checked(source)

    def embed_pictures(self, pictures: Sequence[bytes], names: Sequence[str]) -> npt.NDArray[np.float32]:
        """Decodes, encodes and normalises.

        Args:
            pictures: n encoded files.
            names: What to call each of them in an error.

        Returns:
            float32[n, D], unit L2 norm, in the order of `pictures`.

        Raises:
            UserError: A picture cannot be embedded; the message names it and the reason.
        """
        embeddings = np.empty((len(pictures), self._encoder.embedding_dim), np.float32)
        line = EmbeddingLine(
            lambda index, _: Fetched(pictures[int(index)], ""),
            self._decode,
            lambda: self._encoder,
            LineLimits(parallel_fetches=1),
        )
        try:
            outcomes = [outcome for index in range(len(pictures)) for outcome in line.push(Job(str(index)))]
            outcomes += line.flush()
        finally:
            line.close()
        for outcome in sorted(outcomes, key=lambda outcome: int(outcome.job.image_uri)):
            index = int(outcome.job.image_uri)
            if isinstance(outcome, Refused):
                raise UserError(f"{names[index]}: {outcome.reason.value}: {outcome.detail}")
            assert isinstance(outcome, Embedded)  # nothing was known of it before
            embeddings[index] = outcome.embedding
        return embeddings
