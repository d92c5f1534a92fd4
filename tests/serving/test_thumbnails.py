"""Thumbnails: made once, kept while they are asked for, and whose picture is gone is known to be gone."""

from __future__ import annotations

import asyncio
import io
import threading
import time
import types
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from PIL import Image
from prometheus_client import REGISTRY

from encoder.thumbnails import make_thumbnail
from index_builder.search.rows import Hit
from serving import thumbnails as module
from serving.options import ServeOptions
from serving.problem import Problem
from serving.thumbnails import SIZES_PX, CachedThumbnail, ThumbnailCache
from store.rejects import Reason, Rejected
from tests.support.fake_time import FakeTime
from tests.support.hostile import encoded, photo

PICTURE = encoded(photo(900, 600), "JPEG")


class Catalog:
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


@pytest.fixture
def catalog() -> Catalog:
    return Catalog()


def run(
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


def count(outcome: str) -> float:
    return REGISTRY.get_sample_value("shelfmark_thumbnails_total", {"outcome": outcome}) or 0.0


def kept_bytes() -> float | None:
    return REGISTRY.get_sample_value("shelfmark_thumbnail_cache_bytes")


@pytest.mark.parametrize("size_px", SIZES_PX)
def test_it_is_a_small_jpeg_that_knows_the_size_of_the_picture(catalog, size_px):
    async def test(thumbnails: ThumbnailCache) -> None:
        made = await thumbnails.get(catalog.published, row("a.jpg"), size_px)
        assert (made.width, made.height) == (900, 600)
        with Image.open(io.BytesIO(made.jpeg)) as small:
            assert (small.format, small.size) == ("JPEG", (size_px, round(size_px / 1.5)))

    run(test)


def test_many_who_ask_at_the_same_time_get_the_one_that_is_made(catalog):
    async def test(thumbnails: ThumbnailCache) -> None:
        made_before, hits_before = count("made"), count("hit")
        catalog.open.clear()
        asking = [asyncio.ensure_future(thumbnails.get(catalog.published, row("a.jpg"), 160)) for _ in range(20)]
        await until(lambda: catalog.fetched["a.jpg"] == 1)
        catalog.open.set()
        found = await asyncio.gather(*asking)
        assert len({id(thumbnail) for thumbnail in found}) == 1
        assert await thumbnails.get(catalog.published, row("a.jpg"), 160) is found[0]
        assert catalog.fetched == {"a.jpg": 1}
        assert (count("made"), count("hit")) == (made_before + 1, hits_before + 1)

    run(test)


def test_another_size_and_another_snapshot_are_other_thumbnails(catalog):
    async def test(thumbnails: ThumbnailCache) -> None:
        one = await thumbnails.get(catalog.published, row("a.jpg"), 160)
        large = await thumbnails.get(catalog.published, row("a.jpg"), 320)
        assert one.etag != large.etag
        catalog.snapshot = "20261102T031500Z-000002"
        assert (await thumbnails.get(catalog.published, row("a.jpg"), 160)).etag == one.etag  # the file is the same
        assert catalog.fetched == {"a.jpg": 3}

    run(test)


def test_those_asked_for_last_are_kept_within_the_limit(catalog):
    async def measure(thumbnails: ThumbnailCache) -> None:
        await thumbnails.get(catalog.published, row("a.jpg"), 160)

    run(measure)
    one_bytes = kept_bytes()
    assert one_bytes is not None
    assert one_bytes > 1000

    async def test(thumbnails: ThumbnailCache) -> None:
        for name in ("a.jpg", "b.jpg", "a.jpg", "c.jpg", "a.jpg"):  # c takes the place of b
            await thumbnails.get(catalog.published, row(name), 160)
        assert kept_bytes() == 2 * one_bytes
        catalog.fetched.clear()
        for name in ("a.jpg", "c.jpg", "b.jpg"):
            await thumbnails.get(catalog.published, row(name), 160)
        assert catalog.fetched == {"b.jpg": 1}
        assert kept_bytes() == 2 * one_bytes

    run(test, cache_bytes=int(2 * one_bytes))


def test_nothing_is_kept_where_nothing_has_room(catalog):
    async def test(thumbnails: ThumbnailCache) -> None:
        for _ in range(2):
            assert isinstance(await thumbnails.get(catalog.published, row("a.jpg"), 160), CachedThumbnail)
        assert catalog.fetched == {"a.jpg": 2}
        assert kept_bytes() == 0

    run(test, cache_bytes=1000)


def test_a_picture_that_is_gone_is_not_looked_for_again(catalog):
    async def test(thumbnails: ThumbnailCache) -> None:
        gone_before = count("gone")
        catalog.refused["a.jpg"] = Rejected(Reason.NOT_FOUND, "/secret/place/a.jpg: no such file")
        for _ in range(2):
            with pytest.raises(Problem) as problem:
                await thumbnails.get(catalog.published, row("a.jpg"), 160)
            assert (problem.value.status, problem.value.more) == (404, {"reason": "not_found"})
            assert problem.value.detail == "the catalog's picture cannot be had: not_found"
        assert catalog.fetched == {"a.jpg": 1}
        assert count("gone") == gone_before + 2

    run(test)


def test_a_picture_that_is_put_back_is_found_after_a_while(catalog):
    time_passes = FakeTime()

    async def test() -> None:
        thumbnails = ThumbnailCache(ServeOptions("store"), time_passes.clock)
        try:
            catalog.refused["a.jpg"] = Rejected(Reason.NOT_FOUND, "no such file")
            with pytest.raises(Problem):
                await thumbnails.get(catalog.published, row("a.jpg"), 160)
            catalog.refused.clear()
            time_passes.sleep(59)
            with pytest.raises(Problem):
                await thumbnails.get(catalog.published, row("a.jpg"), 160)
            time_passes.sleep(2)
            made = await thumbnails.get(catalog.published, row("a.jpg"), 160)
            assert kept_bytes() == pytest.approx(len(made.jpeg), abs=300)
        finally:
            thumbnails.close()

    asyncio.run(test())


def test_a_picture_that_cannot_be_decoded_is_not_fetched_again(catalog):
    async def test(thumbnails: ThumbnailCache) -> None:
        published = publication("s", lambda uri: catalog.fetch(uri)[:200])
        for _ in range(2):
            with pytest.raises(Problem, match="truncated"):
                await thumbnails.get(published, row("a.jpg"), 160)
        assert catalog.fetched == {"a.jpg": 1}

    run(test)


def test_a_picture_that_may_be_back_is_looked_for_again(catalog):
    async def test(thumbnails: ThumbnailCache) -> None:
        catalog.refused["a.jpg"] = Rejected(Reason.TIMEOUT, "slow", passing=True)
        with pytest.raises(Problem, match="cannot be had: timeout"):
            await thumbnails.get(catalog.published, row("a.jpg"), 160)
        catalog.refused.clear()
        assert isinstance(await thumbnails.get(catalog.published, row("a.jpg"), 160), CachedThumbnail)

    run(test)


def test_what_nobody_expected_is_raised_and_not_kept(catalog):
    async def test(thumbnails: ThumbnailCache) -> None:
        broken = publication(catalog.snapshot, lambda _: bytes(1 // 0))
        with pytest.raises(ZeroDivisionError):
            await thumbnails.get(broken, row("a.jpg"), 160)
        assert isinstance(await thumbnails.get(catalog.published, row("a.jpg"), 160), CachedThumbnail)

    run(test)


def test_a_picture_with_too_many_pixels_is_not_decoded(catalog):
    async def test(thumbnails: ThumbnailCache) -> None:
        with pytest.raises(Problem, match="cannot be had: too_many_pixels") as problem:
            await thumbnails.get(catalog.published, row("a.jpg"), 160)
        assert problem.value.status == 404

    run(test, max_pixels=900 * 600 - 1)


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

    run(test, threads=2)


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

    run(test)


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

    run(test)


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

    run(test)
