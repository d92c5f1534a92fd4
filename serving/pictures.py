"""Query pictures become embeddings as the catalog's did: the same decoder, the same model, in batches."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence

from encoder.decode import Box, Picture
from encoder.model import Encoder
from encoder.picture_encoder import PictureEmbedding, PictureEncoder, encode_batch
from serving import metrics
from serving.options import ServeOptions
from serving.problem import Problem
from serving.refusals import refused
from serving.work_queue import Full, WorkQueue, call_each
from store.rejects import Rejected


@dataclasses.dataclass(frozen=True, slots=True)
class _DecodedQuery:
    picture: Picture
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
        self._encoding: WorkQueue[_DecodedQuery, PictureEmbedding | Rejected] = WorkQueue(
            "encode", _encode, max_batch=max_batch, max_waiting=self._most, delay_s=options.batch_delay_ms / 1000
        )

    def check_room(self) -> None:
        """Turns a picture away before its bytes are read.

        Raises:
            Problem: 503, as many pictures are in work as may be.
        """
        if self._in_house >= self._most:
            raise refused("pictures_full", f"{self._in_house} pictures are waiting", self._encoding.retry_after_s)

    async def embed(self, data: bytes, model: PictureEncoder, crop: Box | None = None) -> PictureEmbedding:
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

    async def _embed(self, data: bytes, model: PictureEncoder, crop: Box | None) -> PictureEmbedding:
        with self._encoding.coming() as announced:
            picture = await self._decoding.submit(lambda: _decode(model, data, crop, self._max_pixels))
            found = await self._encoding.submit(_DecodedQuery(picture, model.encoder), announced)
        if isinstance(found, Rejected):
            raise found
        return found

    def close(self) -> None:
        """Stops the threads."""
        self._decoding.close()
        self._encoding.close()


def _decode(model: PictureEncoder, data: bytes, crop: Box | None, max_pixels: int) -> Picture:
    try:
        with metrics.DECODE_S.time():
            return model.decode(data, crop, max_pixels=max_pixels)
    except ValueError as error:
        raise Problem(422, str(error)) from error


def _encode(batch: Sequence[_DecodedQuery]) -> list[PictureEmbedding | Rejected | Exception]:
    """One call of each model that is asked for; but for the moments after a swap there is one."""
    answers: list[PictureEmbedding | Rejected | Exception] = [Problem(500, "not embedded")] * len(batch)
    for encoder in {id(decoded.encoder): decoded.encoder for decoded in batch}.values():
        places = [place for place, decoded in enumerate(batch) if decoded.encoder is encoder]
        started_s = time.monotonic()
        found = encode_batch(encoder, [batch[place].picture for place in places])
        metrics.ENCODE_S.observe(time.monotonic() - started_s)
        metrics.BATCH_PICTURES.observe(len(places))
        for place, embedding in zip(places, found, strict=True):
            answers[place] = embedding
    return answers
