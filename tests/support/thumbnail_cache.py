"""A cache of thumbnails over a catalog whose pictures arrive when the test lets them."""

from __future__ import annotations

import asyncio
import threading
import time
import types
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from prometheus_client import REGISTRY

from index_builder.search.rows import Hit
from serving.options import ServeOptions
from serving.thumbnails import ThumbnailCache
from store.rejects import Rejected
from tests.support.hostile import encoded, photo

PICTURE = encoded(photo(900, 600), "JPEG")


class SlowCatalog:
    """Pictures that are fetched when the test lets them, and how often each was."""

    def __init__(self) -> None:
        self.fetched: Counter[str] = Counter()
        self.refused: dict[str, Rejected] = {}
        self.open = threading.Event()
        self.open.set()
        self.snapshot = "20261101T031500Z-000001"

    def fetch(self, image_uri: str) -> bytes:
        self.fetched[image_uri] += 1
        assert self.open.wait(120)
        if image_uri in self.refused:
            raise self.refused[image_uri]
        return PICTURE

    @property
    def published(self) -> Any:
        return publication(self.snapshot, self.fetch)


def publication(snapshot: str, fetch: Callable[[str], bytes], stored: bytes | None = None) -> Any:
    """A version as thumbnails need it."""
    pictures = types.SimpleNamespace(fetch=lambda uri, row: fetch(uri), stored_thumbnail=lambda row: stored)
    return types.SimpleNamespace(snapshot=snapshot, pictures=pictures)


def row(image_uri: str) -> Hit:
    return Hit(image_uri, "item", image_uri, 1.0, {}, 0)


def run_cache(
    test: Callable[[ThumbnailCache], Coroutine[Any, Any, None]], cache_bytes: int = 1 << 20, **options: Any
) -> None:
    async def start() -> None:
        thumbnails = ThumbnailCache(ServeOptions("store", thumbnail_cache_bytes=cache_bytes, **options))
        try:
            await asyncio.wait_for(test(thumbnails), 30)
        finally:
            thumbnails.close()

    asyncio.run(start())


async def until(holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < end_s, "it never came to hold"
        await asyncio.sleep(0)


def count_thumbnails(outcome: str) -> float:
    return REGISTRY.get_sample_value("shelfmark_thumbnails_total", {"outcome": outcome}) or 0.0
