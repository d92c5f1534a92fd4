"""Query pictures become embeddings through the line and the model that the catalog went through."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from encoder.decode import DecodeOptions, decode_picture
from encoder.source import load_checked, open_source
from fetch.source_version import Fetched
from store.errors import UserError
from store.location import Store
from transforms.embedding_line import EmbeddingLine, LineLimits
from transforms.picture_outcomes import EmbeddedPicture, PictureJob, RefusedPicture


class PictureError(UserError):
    """A picture that cannot be searched for; the message begins with its name."""


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
            outcomes = [outcome for index in range(len(pictures)) for outcome in line.push(PictureJob(str(index)))]
            outcomes += line.flush()
        finally:
            line.close()
        for outcome in sorted(outcomes, key=lambda outcome: int(outcome.job.image_uri)):
            index = int(outcome.job.image_uri)
            if isinstance(outcome, RefusedPicture):
                raise PictureError(f"{names[index]}: {outcome.reason.value}: {outcome.detail}")
            assert isinstance(outcome, EmbeddedPicture)  # nothing was known of it before
            embeddings[index] = outcome.embedding
        return embeddings
