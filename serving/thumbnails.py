"""Small pictures of rows, made from the catalog's own and kept in memory."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import hashlib
import threading
import time
from collections.abc import Callable

from encoder.thumbnails import make_thumbnail, shrink_stored
from fetch.row_pictures import RowPictures
from index_builder.search import Hit
from serving import metrics
from serving.options import ServeOptions
from serving.problem import Problem
from serving.published import ServedVersion
from serving.refusals import refused
from serving.work_queue import Full, WorkQueue, call_each
from store.rejects import Reason, Rejected

SIZES_PX = (160, 320, 640)

# Fetching is waiting: several at once for every processor.
_THREADS = 8
_MAX_WAITING = 512
_GONE_BYTES = 256
_GONE_S = 60.0


@dataclasses.dataclass(frozen=True, slots=True)
class CachedThumbnail:
    """A finished thumbnail.

    Attributes:
        jpeg: The file.
        width, height: Of the picture that it was made from, in pixels after orientation.
        etag: Changes with the file.
    """

    jpeg: bytes
    width: int
    height: int
    etag: str


@dataclasses.dataclass(frozen=True, slots=True)
class _Gone:
    """A picture that cannot be had; looked for again after a while, for somebody may put it back."""

    reason: Reason
    until_s: float


_Key = tuple[str, str, int]


class ThumbnailCache:
    """Makes each thumbnail once, also when many ask at the same time, and keeps those that were asked for last.

    Belongs to the event loop's thread.
    """

    def __init__(self, options: ServeOptions, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._limit_bytes = options.thumbnail_cache_bytes
        self._max_pixels = options.max_pixels
        # Who waits for it keeps its thread: what has been fetched is never more than there are threads to fetch.
        self._decoding = threading.Semaphore(options.threads)
        self._kept: collections.OrderedDict[_Key, CachedThumbnail | _Gone] = collections.OrderedDict()
        self._kept_bytes = 0
        self._being_made: dict[_Key, asyncio.Task[CachedThumbnail | _Gone]] = {}
        self._making: WorkQueue[Callable[[], CachedThumbnail], CachedThumbnail] = WorkQueue(
            "thumbnail", call_each, max_waiting=_MAX_WAITING, threads=_THREADS
        )

    async def get(self, published: ServedVersion, hit: Hit, size_px: int) -> CachedThumbnail:
        """The thumbnail of a row's picture.

        Args:
            published: The version that the row is in.
            hit: The row.
            size_px: Longest side.

        Raises:
            Problem: 404, the picture cannot be had; 503, too many are being made.
        """
        key = (published.snapshot, hit.image_id, size_px)
        found = self._kept.get(key)
        if isinstance(found, _Gone) and self._clock() > found.until_s:
            found = None
        if found is not None:
            self._kept.move_to_end(key)
            metrics.THUMBNAILS.labels("hit").inc()
        else:
            task = self._being_made.get(key)
            if task is None:
                task = self._being_made[key] = asyncio.ensure_future(self._make(key, published, hit))
                task.add_done_callback(lambda _: self._being_made.pop(key, None))
            found = await asyncio.shield(task)  # one that leaves must not take it away from the others
        if isinstance(found, _Gone):
            metrics.THUMBNAILS.labels("gone").inc()
            raise Problem(404, f"the catalog's picture cannot be had: {found.reason.value}", reason=found.reason.value)
        return found

    async def _make(self, key: _Key, published: ServedVersion, hit: Hit) -> CachedThumbnail | _Gone:
        found: CachedThumbnail | _Gone
        try:
            found = await self._making.submit(lambda: self._fetch_and_make(published.pictures, hit, key[2]))
            metrics.THUMBNAILS.labels("made").inc()
        except Full as full:
            raise refused("thumbnails_full", "too many thumbnails are being made", full.retry_after_s) from full
        except Rejected as rejected:
            found = _Gone(rejected.reason, self._clock() + _GONE_S)
            if rejected.passing:
                return found
        self._keep(key, found)
        return found

    def _fetch_and_make(self, pictures: RowPictures, hit: Hit, size_px: int) -> CachedThumbnail:
        stored = pictures.stored_thumbnail(hit.row)
        data = pictures.fetch(hit.image_uri, hit.row) if stored is None else stored
        make = make_thumbnail if stored is None else shrink_stored
        with self._decoding:
            made = make(data, size_px, self._max_pixels)
        etag = hashlib.sha256(made.jpeg).hexdigest()[:16]
        return CachedThumbnail(made.jpeg, made.width, made.height, f'"{etag}"')

    def _keep(self, key: _Key, found: CachedThumbnail | _Gone) -> None:
        if key in self._kept:
            self._kept_bytes -= _size_bytes(key, self._kept.pop(key))
        self._kept[key] = found
        self._kept_bytes += _size_bytes(key, found)
        while self._kept_bytes > self._limit_bytes:
            self._kept_bytes -= _size_bytes(*self._kept.popitem(last=False))
        metrics.THUMBNAIL_BYTES.set(self._kept_bytes)

    def close(self) -> None:
        """Stops the threads."""
        self._making.close()


def _size_bytes(key: _Key, found: CachedThumbnail | _Gone) -> int:
    return _GONE_BYTES + len(key[1]) + (len(found.jpeg) if isinstance(found, CachedThumbnail) else 0)
