"""Thumbnails: made once, kept while they are asked for, and whose picture is gone is known to be gone."""

from __future__ import annotations

import asyncio
import io

import pytest
from PIL import Image
from prometheus_client import REGISTRY

from serving.options import ServeOptions
from serving.problem import Problem
from serving.thumbnails import SIZES_PX, CachedThumbnail, ThumbnailCache
from store.rejects import Reason, Rejected
from tests.support.fake_time import FakeTime
from tests.support.thumbnail_cache import count_thumbnails, publication, row, run_cache


def kept_bytes() -> float | None:
    return REGISTRY.get_sample_value("shelfmark_thumbnail_cache_bytes")


@pytest.mark.parametrize("size_px", SIZES_PX)
def test_it_is_a_small_jpeg_that_knows_the_size_of_the_picture(catalog, size_px):
    async def test(thumbnails: ThumbnailCache) -> None:
        made = await thumbnails.get(catalog.published, row("a.jpg"), size_px)
        assert (made.width, made.height) == (900, 600)
        with Image.open(io.BytesIO(made.jpeg)) as small:
            assert (small.format, small.size) == ("JPEG", (size_px, round(size_px / 1.5)))

    run_cache(test)


def test_another_size_and_another_snapshot_are_other_thumbnails(catalog):
    async def test(thumbnails: ThumbnailCache) -> None:
        one = await thumbnails.get(catalog.published, row("a.jpg"), 160)
        large = await thumbnails.get(catalog.published, row("a.jpg"), 320)
        assert one.etag != large.etag
        catalog.snapshot = "20261102T031500Z-000002"
        assert (await thumbnails.get(catalog.published, row("a.jpg"), 160)).etag == one.etag  # the file is the same
        assert catalog.fetched == {"a.jpg": 3}

    run_cache(test)


def test_those_asked_for_last_are_kept_within_the_limit(catalog):
    async def measure(thumbnails: ThumbnailCache) -> None:
        await thumbnails.get(catalog.published, row("a.jpg"), 160)

    run_cache(measure)
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

    run_cache(test, cache_bytes=int(2 * one_bytes))


def test_nothing_is_kept_where_nothing_has_room(catalog):
    async def test(thumbnails: ThumbnailCache) -> None:
        for _ in range(2):
            assert isinstance(await thumbnails.get(catalog.published, row("a.jpg"), 160), CachedThumbnail)
        assert catalog.fetched == {"a.jpg": 2}
        assert kept_bytes() == 0

    run_cache(test, cache_bytes=1000)


def test_a_picture_that_is_gone_is_not_looked_for_again(catalog):
    async def test(thumbnails: ThumbnailCache) -> None:
        gone_before = count_thumbnails("gone")
        catalog.refused["a.jpg"] = Rejected(Reason.NOT_FOUND, "/secret/place/a.jpg: no such file")
        for _ in range(2):
            with pytest.raises(Problem) as problem:
                await thumbnails.get(catalog.published, row("a.jpg"), 160)
            assert (problem.value.status, problem.value.more) == (404, {"reason": "not_found"})
            assert problem.value.detail == "the catalog's picture cannot be had: not_found"
        assert catalog.fetched == {"a.jpg": 1}
        assert count_thumbnails("gone") == gone_before + 2

    run_cache(test)


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

    run_cache(test)


def test_a_picture_that_may_be_back_is_looked_for_again(catalog):
    async def test(thumbnails: ThumbnailCache) -> None:
        catalog.refused["a.jpg"] = Rejected(Reason.TIMEOUT, "slow", passing=True)
        with pytest.raises(Problem, match="cannot be had: timeout"):
            await thumbnails.get(catalog.published, row("a.jpg"), 160)
        catalog.refused.clear()
        assert isinstance(await thumbnails.get(catalog.published, row("a.jpg"), 160), CachedThumbnail)

    run_cache(test)


def test_what_nobody_expected_is_raised_and_not_kept(catalog):
    async def test(thumbnails: ThumbnailCache) -> None:
        broken = publication(catalog.snapshot, lambda _: bytes(1 // 0))
        with pytest.raises(ZeroDivisionError):
            await thumbnails.get(broken, row("a.jpg"), 160)
        assert isinstance(await thumbnails.get(catalog.published, row("a.jpg"), 160), CachedThumbnail)

    run_cache(test)


def test_a_picture_with_too_many_pixels_is_not_decoded(catalog):
    async def test(thumbnails: ThumbnailCache) -> None:
        with pytest.raises(Problem, match="cannot be had: too_many_pixels") as problem:
            await thumbnails.get(catalog.published, row("a.jpg"), 160)
        assert problem.value.status == 404

    run_cache(test, max_pixels=900 * 600 - 1)
