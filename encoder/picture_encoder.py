"""Encoded pictures to normalised embeddings: the one path that a catalog's pictures and all query pictures take."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
from collections.abc import Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import numpy as np
import numpy.typing as npt

from encoder.decode import Box, DecodeOptions, Picture, decode_picture
from encoder.model import Encoder
from encoder.normalise import normalise
from encoder.source import check_loaded, load_checked, open_source
from encoder.spec import EncoderSpec
from store.location import Store
from store.machine import processors
from store.rejects import Rejected
from store.shortage import ShortageError, shortage_of

MAX_PIXELS = DecodeOptions().max_pixels
"""Of a picture that is embedded; larger ones are rejected."""

_CHECKED_PICTURES = 4


@dataclasses.dataclass(frozen=True, slots=True)
class PictureEmbedding:
    """A picture's embedding.

    Attributes:
        embedding: float32[D], unit L2 norm.
        norm: L2 norm of the model's output.
        width, height: Of the whole picture, in pixels after orientation.
    """

    embedding: npt.NDArray[np.float32]
    norm: float
    width: int
    height: int


def encode_batch(encoder: Encoder, pictures: Sequence[Picture]) -> list[PictureEmbedding | Rejected]:
    """Encodes and normalises pictures in one call of the model.

    Args:
        encoder: The model.
        pictures: At least one, at most `encoder.batch_size`, all of the side that the model takes.

    Returns:
        In the order of `pictures`: an embedding, or a `Rejected` (NOT_FINITE) where it has no direction.
    """
    features = encoder.encode(np.stack([picture.pixels for picture in pictures]))
    found: list[PictureEmbedding | Rejected] = []
    for picture, unit in zip(pictures, normalise(features), strict=True):
        if isinstance(unit, Rejected):
            found.append(unit)
        else:
            found.append(PictureEmbedding(unit.embedding, unit.norm, picture.width, picture.height))
    return found


class PictureEncoder:
    """Embeds pictures as the catalog of a manifest was embedded. Safe to share between threads."""

    def __init__(self, spec: EncoderSpec, encoder: Encoder) -> None:
        """Takes a model that was loaded already; see `open`.

        Args:
            spec: What the model was loaded from; says how pictures become pixels.
            encoder: The model.
        """
        self.spec = spec
        self.encoder = encoder

    @classmethod
    def open(
        cls, store: Store, entry: Mapping[str, Any], *, batch_size: int = 0, warm_up: bool = False
    ) -> PictureEncoder:
        """Fetches the weights, checks them, and compiles the model.

        Args:
            store: Holds the weights.
            entry: An index's or a snapshot's `encoder` entry.
            batch_size: Pictures that the model takes at once, 0 for what suits the hardware.
            warm_up: Also checks that this machine computes the catalog's precision well enough, and makes the first
                call of each batch shape, which is a slow one: a few seconds before the first picture instead of then.

        Raises:
            StoreError: The entry is incomplete or of another release; or the weights are missing, damaged or others.
        """
        source = dataclasses.replace(open_source(store, entry), batch_size=batch_size)
        encoder = load_checked(source)
        if warm_up:
            shape = (encoder.batch_size, source.image_size, source.image_size, 3)
            pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
            check_loaded(source, encoder, pixels[:_CHECKED_PICTURES])
            for count in sorted({1, encoder.batch_size}):
                encoder.encode(pixels[:count])
        return cls(source.spec, encoder)

    def decode(self, data: bytes, crop: Box | None = None, *, max_pixels: int = MAX_PIXELS) -> Picture:
        """A picture's pixels, as the model takes them.

        Args:
            data: The encoded file.
            crop: The part that is wanted, in pixels of the upright picture; None for all of it.
            max_pixels: Larger pictures are rejected.

        Raises:
            Rejected: It is no picture that can be embedded.
            ValueError: The crop has no pixel of the picture.
        """
        return decode_picture(data, DecodeOptions(self.spec.image_size, self.spec.resize, max_pixels), crop)

    def embed(self, pictures: Iterable[bytes]) -> list[PictureEmbedding | Rejected]:
        """Decodes on every processor, and encodes full batches meanwhile.

        However many there are, no more decoded pictures are held than a batch, and as many again or one per processor.

        Args:
            pictures: Encoded files.

        Returns:
            In the order of `pictures`: an embedding, or why there is none.

        Raises:
            ShortageError: It is this process that has too little memory or too few threads.
        """
        try:
            with contextlib.closing(self._decode_ahead(pictures)) as decoded:
                return self._encode_all(decoded)
        except (MemoryError, OSError, RuntimeError) as error:
            shortage = shortage_of(error)
            if shortage is None:
                raise
            raise shortage from error

    def _encode_all(self, decoded: Iterable[Picture | Rejected]) -> list[PictureEmbedding | Rejected]:
        found: dict[int, PictureEmbedding | Rejected] = {}
        waiting: dict[int, Picture] = {}
        for place, picture in enumerate(decoded):
            if isinstance(picture, Rejected):
                found[place] = picture
            else:
                waiting[place] = picture
            if len(waiting) == self.encoder.batch_size:
                found.update(self._encode_waiting(waiting))
                waiting = {}
        if waiting:
            found.update(self._encode_waiting(waiting))
        return [found[place] for place in sorted(found)]

    def _encode_waiting(self, waiting: Mapping[int, Picture]) -> dict[int, PictureEmbedding | Rejected]:
        return dict(zip(waiting, encode_batch(self.encoder, list(waiting.values())), strict=True))

    def _decode_ahead(self, pictures: Iterable[bytes]) -> Generator[Picture | Rejected, None, None]:
        """Decoded pictures in order, while the next ones are being decoded: a batch of them, or one per processor."""
        threads = processors()
        under_way: collections.deque[tuple[bytes, Future[Picture | Rejected]]] = collections.deque()
        with ThreadPoolExecutor(threads, "decode") as pool:
            for data in pictures:
                under_way.append((data, pool.submit(self._try_decode, data)))
                if len(under_way) > max(threads, self.encoder.batch_size):
                    yield self._take_first(under_way)
            while under_way:
                yield self._take_first(under_way)

    def _take_first(self, under_way: collections.deque[tuple[bytes, Future[Picture | Rejected]]]) -> Picture | Rejected:
        data, decoding = under_way.popleft()
        try:
            return decoding.result()
        except (MemoryError, ShortageError):
            wait([other for _, other in under_way])
            return self._try_decode(data)  # alone it may find enough

    def _try_decode(self, data: bytes) -> Picture | Rejected:
        try:
            return self.decode(data)
        except Rejected as rejected:
            return rejected
