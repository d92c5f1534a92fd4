"""Query pictures become embeddings as the catalog's did: the same decoder, the same model, in batches."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from encoder.decode import Box, DecodeOptions, Picture, decode_picture
from encoder.model import Encoder
from encoder.normalise import Unit, normalise
from encoder.spec import EncoderSpec
from serving import metrics
from serving.options import ServeOptions
from serving.problem import Problem
from serving.refusals import refused
from serving.work_queue import Full, WorkQueue, call_each
from store.rejects import Rejected


@dataclasses.dataclass(frozen=True, slots=True)
class PictureModel:
    """What embeds the pictures of one fingerprint.

    Attributes:
        spec: The encoder of the index.
        encoder: Its model.
    """

    spec: EncoderSpec
    encoder: Encoder


@dataclasses.dataclass(frozen=True, slots=True)
class QueryEmbedding:
    """A query picture's embedding.

    Attributes:
        vector: float32[D], unit L2 norm.
        width, height: Of the whole picture, in pixels after orientation.
    """

    vector: npt.NDArray[np.float32]
    width: int
    height: int


@dataclasses.dataclass(frozen=True, slots=True)
class _DecodedQuery:
    pixels: npt.NDArray[np.uint8]
    encoder: Encoder


class PictureEmbedder:
    """Decodes in threads, encodes in batches in one more, and turns away what there is no room for."""

    def __init__(self, options: ServeOptions, max_batch: int) -> None:
        """Starts the threads.

        Args:
            options: The limits.
            max_batch: Pictures that the model takes at once.
        """
        self._max_pixels = options.max_pixels
        self._most = options.max_waiting_pictures
        self._in_house = 0
        self._decoding: WorkQueue[Callable[[], Picture], Picture] = WorkQueue(
            "decode", call_each, max_waiting=self._most, threads=options.threads
        )
        self._encoding: WorkQueue[_DecodedQuery, Unit | Rejected] = WorkQueue(
            "encode", _encode, max_batch=max_batch, max_waiting=self._most, delay_s=options.batch_delay_ms / 1000
        )

    def check_room(self) -> None:
        """Turns a picture away before its bytes are read.

        Raises:
            Problem: 503, as many pictures are in work as may be.
        """
        if self._in_house >= self._most:
            raise refused("pictures_full", f"{self._in_house} pictures are waiting", self._encoding.retry_after_s)

    async def embed(self, data: bytes, model: PictureModel, crop: Box | None = None) -> QueryEmbedding:
        """One picture's embedding, or that of a part of it.

        Args:
            data: The encoded file.
            model: Of the version that will be searched.
            crop: The part, in pixels of the upright picture.

        Raises:
            Problem: 422, it cannot be embedded; 503, there is no room for it.
        """
        self.check_room()
        self._in_house += 1
        metrics.PICTURES_WAITING.inc()
        try:
            return await self._embed(data, model, crop)
        except Full as full:
            raise refused("pictures_full", "too many pictures are waiting", full.retry_after_s) from full
        except Rejected as rejected:
            metrics.PICTURES_REJECTED.labels(rejected.reason.value).inc()
            raise Problem(422, f"image: {rejected.detail}", reason=rejected.reason.value) from rejected
        finally:
            self._in_house -= 1
            metrics.PICTURES_WAITING.dec()

    async def _embed(self, data: bytes, model: PictureModel, crop: Box | None) -> QueryEmbedding:
        options = DecodeOptions(model.spec.image_size, model.spec.resize, self._max_pixels)
        with self._encoding.coming() as announced:
            picture = await self._decoding.submit(lambda: _decode(data, options, crop))
            unit = await self._encoding.submit(_DecodedQuery(picture.pixels, model.encoder), announced)
        if isinstance(unit, Rejected):
            raise unit
        return QueryEmbedding(unit.embedding, picture.width, picture.height)

    def close(self) -> None:
        """Stops the threads."""
        self._decoding.close()
        self._encoding.close()


def _decode(data: bytes, options: DecodeOptions, crop: Box | None) -> Picture:
    try:
        with metrics.DECODE_S.time():
            return decode_picture(data, options, crop)
    except ValueError as error:
        raise Problem(422, str(error)) from error


def _encode(batch: Sequence[_DecodedQuery]) -> list[Unit | Rejected | Exception]:
    """One call of each model that is asked for; but for the moments after a swap there is one."""
    units: list[Unit | Rejected | Exception] = [Problem(500, "not embedded")] * len(batch)
    for encoder in {id(decoded.encoder): decoded.encoder for decoded in batch}.values():
        places = [place for place, decoded in enumerate(batch) if decoded.encoder is encoder]
        started_s = time.monotonic()
        features = encoder.encode(np.stack([batch[place].pixels for place in places]))
        metrics.ENCODE_S.observe(time.monotonic() - started_s)
        metrics.BATCH_PICTURES.observe(len(places))
        for place, unit in zip(places, normalise(features), strict=True):
            units[place] = unit
    return units
