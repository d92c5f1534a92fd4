"""Thumbnails that many ask for at the same time: made once, few at once, whoever leaves."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from encoder.thumbnails import make_thumbnail
from serving import thumbnails as module
from serving.problem import Problem
from serving.thumbnails import CachedThumbnail, ThumbnailCache
from tests.support.thumbnail_cache import count_thumbnails, row, run_cache, until


def test_many_who_ask_at_the_same_time_get_the_one_that_is_made(catalog):
    async def test(thumbnails: ThumbnailCache) -> None:
        made_before, hits_before = count_thumbnails("made"), count_thumbnails("hit")
        catalog.open.clear()
        asking = [asyncio.ensure_future(thumbnails.get(catalog.published, row("a.jpg"), 160)) for _ in range(20)]
        await until(lambda: catalog.fetched["a.jpg"] == 1)
        catalog.open.set()
        found = await asyncio.gather(*asking)
        assert len({id(thumbnail) for thumbnail in found}) == 1
        assert await thumbnails.get(catalog.published, row("a.jpg"), 160) is found[0]
        assert catalog.fetched == {"a.jpg": 1}
        assert (count_thumbnails("made"), count_thumbnails("hit")) == (made_before + 1, hits_before + 1)

    run_cache(test)


def test_many_are_fetched_at_once_but_as_many_decoded_as_there_are_processors(catalog, monkeypatch):
    go = threading.Event()
    decoding: list[int] = []

    def make(data: bytes, size_px: int, max_pixels: int) -> Any:
        decoding.append(size_px)
        assert go.wait(120)
        return make_thumbnail(data, size_px, max_pixels)

    monkeypatch.setattr(module, "make_thumbnail", make)

    async def test(thumbnails: ThumbnailCache) -> None:
        names = [f"{number}.jpg" for number in range(6)]
        asking = [asyncio.ensure_future(thumbnails.get(catalog.published, row(name), 160)) for name in names]
        await until(lambda: catalog.fetched.total() == 6 and len(decoding) == 2)
        assert not thumbnails._decoding.acquire(blocking=False)
        go.set()
        assert len(await asyncio.gather(*asking)) == len(decoding) == 6

    run_cache(test, threads=2)


def test_one_who_leaves_takes_nothing_from_the_others(catalog):
    async def test(thumbnails: ThumbnailCache) -> None:
        catalog.open.clear()
        first, second = [asyncio.ensure_future(thumbnails.get(catalog.published, row("a.jpg"), 160)) for _ in range(2)]
        await until(lambda: catalog.fetched["a.jpg"] == 1)
        first.cancel()
        await until(first.done)
        catalog.open.set()
        assert isinstance(await second, CachedThumbnail)
        with pytest.raises(asyncio.CancelledError):
            await first
        assert catalog.fetched == {"a.jpg": 1}

    run_cache(test)


def test_what_was_made_for_one_who_left_is_there_for_the_next(catalog):
    async def test(thumbnails: ThumbnailCache) -> None:
        catalog.open.clear()
        only = asyncio.ensure_future(thumbnails.get(catalog.published, row("a.jpg"), 160))
        await until(lambda: catalog.fetched["a.jpg"] == 1)
        only.cancel()
        await until(only.done)
        catalog.open.set()
        assert isinstance(await thumbnails.get(catalog.published, row("a.jpg"), 160), CachedThumbnail)
        assert catalog.fetched == {"a.jpg": 1}

    run_cache(test)


def test_one_too_many_is_told_to_come_back(catalog, monkeypatch):
    monkeypatch.setattr(module, "_MAX_WAITING", 1)
    monkeypatch.setattr(module, "_THREADS", 1)

    async def test(thumbnails: ThumbnailCache) -> None:
        catalog.open.clear()
        asking = [asyncio.ensure_future(thumbnails.get(catalog.published, row("a.jpg"), 160))]
        await until(lambda: catalog.fetched["a.jpg"] == 1)
        asking.append(asyncio.ensure_future(thumbnails.get(catalog.published, row("b.jpg"), 160)))
        await asyncio.sleep(0)
        with pytest.raises(Problem) as problem:
            await thumbnails.get(catalog.published, row("c.jpg"), 160)
        assert (problem.value.status, problem.value.headers) == (503, {"Retry-After": "1"})
        catalog.open.set()
        await asyncio.gather(*asking)
        assert isinstance(await thumbnails.get(catalog.published, row("c.jpg"), 160), CachedThumbnail)

    run_cache(test)
