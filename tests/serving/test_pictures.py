"""Query pictures: decoded and embedded as the catalog's, in batches, one bad one harming no other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from prometheus_client import REGISTRY

from encoder.decode import Box, DecodeOptions, decode_picture
from encoder.normalise import Unit, normalise
from encoder.picture_encoder import PictureEncoder
from serving.options import ServeOptions
from serving.pictures import PictureEmbedder
from serving.problem import Problem
from tests.support.fakes import FakeEncoder, FakeEncoderSource
from tests.support.hostile import encoded, photo

SPEC = FakeEncoderSource()._spec()
PICTURES = [encoded(photo(40 + 7 * number, 90 - 5 * number), "PNG") for number in range(6)]


def embed(embedder: PictureEmbedder, data: bytes, encoder: Any = None, crop: Box | None = None) -> Any:
    return embedder.embed(data, PictureEncoder(SPEC, encoder or FakeEncoder()), crop)


def run(test: Callable[[PictureEmbedder], Coroutine[Any, Any, None]], max_batch: int = 8, **options: Any) -> None:
    async def start() -> None:
        embedder = PictureEmbedder(ServeOptions("store", **{"threads": 2, **options}), max_batch)
        try:
            await asyncio.wait_for(test(embedder), 30)
            assert sample("pictures_waiting") == 0
        finally:
            embedder.close()

    asyncio.run(start())


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"shelfmark_{name}", labels) or 0.0


def alone(data: bytes) -> npt.NDArray[np.float32]:
    """The embedding of one picture, as the catalog's are made."""
    picture = decode_picture(data, DecodeOptions(SPEC.image_size, resize=SPEC.resize))
    (unit,) = normalise(FakeEncoder().encode(picture.pixels[None]))
    assert isinstance(unit, Unit)
    return unit.embedding


class Held(FakeEncoder):
    """Waits for the test with every batch."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()
        self.go = threading.Event()

    def encode(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        self.begun.set()
        assert self.go.wait(120)
        return super().encode(pixels)


def test_every_picture_gets_its_own_embedding_and_size():
    async def test(embedder: PictureEmbedder) -> None:
        found = await asyncio.gather(*(embed(embedder, data) for data in PICTURES))
        for number, (data, embedded) in enumerate(zip(PICTURES, found, strict=True)):
            np.testing.assert_allclose(embedded.embedding, alone(data), atol=1e-6)
            assert (embedded.width, embedded.height) == (40 + 7 * number, 90 - 5 * number)

    run(test)


def test_pictures_that_come_together_are_in_the_model_together():
    async def test(embedder: PictureEmbedder) -> None:
        encoder = FakeEncoder()
        before = sample("batch_pictures_sum")
        await asyncio.gather(*(embed(embedder, data, encoder) for data in PICTURES))
        assert encoder.batches == [3, 3]
        assert sample("batch_pictures_sum") == before + 6

    run(test, max_batch=3, batch_delay_ms=60_000.0)


def test_a_part_is_embedded_as_if_it_had_been_cut_out():
    picture = photo(80, 60)

    async def test(embedder: PictureEmbedder) -> None:
        found = await embed(embedder, encoded(picture, "PNG"), crop=Box(10, 5, 30, 40))
        np.testing.assert_array_equal(found.embedding, alone(encoded(picture.crop((10, 5, 40, 45)), "PNG")))
        assert (found.width, found.height) == (80, 60)
        with pytest.raises(Problem) as problem:
            await embed(embedder, encoded(picture, "PNG"), crop=Box(80, 0, 5, 5))
        assert problem.value.status == 422
        assert problem.value.detail.startswith("crop: expected ")

    run(test)


def test_one_that_cannot_be_decoded_is_refused_and_the_others_wait_no_longer_for_it():
    async def test(embedder: PictureEmbedder) -> None:
        before = sample("pictures_rejected_total", reason="truncated")
        answers = await asyncio.gather(
            *(embed(embedder, data) for data in (PICTURES[0], PICTURES[1][:100], PICTURES[2], b"text", b"")),
            return_exceptions=True,
        )
        refused = [answer for answer in answers if isinstance(answer, Problem)]
        assert [problem.status for problem in refused] == [422] * 3
        assert [problem.more["reason"] for problem in refused] == ["truncated", "not_an_image", "empty"]
        assert all(problem.detail.startswith("image: ") for problem in refused)
        assert sample("pictures_rejected_total", reason="truncated") == before + 1
        assert not [answer for answer in (answers[0], answers[2]) if isinstance(answer, BaseException)]

    run(test, batch_delay_ms=60_000.0)


def test_a_picture_may_have_so_many_pixels_and_no_more():
    async def test(embedder: PictureEmbedder) -> None:
        await embed(embedder, encoded(photo(40, 25), "PNG"))
        with pytest.raises(Problem) as problem:
            await embed(embedder, encoded(photo(40, 26), "PNG"))
        assert problem.value.more == {"reason": "too_many_pixels"}

    run(test, max_pixels=1000)


def test_an_embedding_without_a_direction_is_refused_alone():
    class Partly(FakeEncoder):
        def encode(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
            features = super().encode(pixels)
            features[pixels.max(axis=(1, 2, 3)) == 0] = np.nan
            return features

    async def test(embedder: PictureEmbedder) -> None:
        black = encoded(photo(32, 32).point(lambda _: 0), "PNG")
        encoder = Partly()
        asking = (embed(embedder, black, encoder), embed(embedder, PICTURES[0], encoder))
        answers: Any = await asyncio.gather(*asking, return_exceptions=True)
        failed, embedded = answers
        assert isinstance(failed, Problem)
        assert (failed.status, failed.more) == (422, {"reason": "not_finite"})
        np.testing.assert_allclose(embedded.embedding, alone(PICTURES[0]), atol=1e-6)

    run(test, max_batch=2, batch_delay_ms=60_000.0)


def test_around_a_swap_each_picture_goes_through_the_model_of_its_version():
    class Another(FakeEncoder):
        def encode(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
            return -super().encode(pixels)

    async def test(embedder: PictureEmbedder) -> None:
        encoders: Sequence[FakeEncoder] = [FakeEncoder(), Another()]
        found = await asyncio.gather(*(embed(embedder, PICTURES[n], encoders[n % 2]) for n in range(4)))
        for number, embedded in enumerate(found):
            expected = alone(PICTURES[number]) * (1, -1)[number % 2]
            np.testing.assert_allclose(embedded.embedding, expected, atol=1e-6)
        assert [encoder.batches for encoder in encoders] == [[2], [2]]

    run(test, max_batch=4, batch_delay_ms=60_000.0)


def test_a_model_that_fails_fails_its_pictures_and_not_the_next_ones():
    class Broken(FakeEncoder):
        def encode(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
            raise RuntimeError("out of memory")

    async def test(embedder: PictureEmbedder) -> None:
        with pytest.raises(RuntimeError, match="out of memory"):
            await embed(embedder, PICTURES[0], Broken())
        assert (await embed(embedder, PICTURES[0])).width == 40

    run(test)


def test_one_too_many_is_turned_away_before_its_bytes_are_read():
    async def test(embedder: PictureEmbedder) -> None:
        encoder = Held()
        before = sample("refused_total", reason="pictures_full")
        asking = [asyncio.ensure_future(embed(embedder, data, encoder)) for data in PICTURES[:2]]
        while not encoder.begun.is_set():
            await asyncio.sleep(0)
        assert sample("pictures_waiting") == 2
        for turn_away in (embedder.check_room, lambda: embed(embedder, PICTURES[0]).send(None)):
            with pytest.raises(Problem, match="2 pictures are waiting") as problem:
                turn_away()
            assert (problem.value.status, problem.value.headers) == (503, {"Retry-After": "1"})
        assert sample("refused_total", reason="pictures_full") == before + 2
        encoder.go.set()
        await asyncio.gather(*asking)
        embedder.check_room()

    run(test, max_waiting_pictures=2)


def test_one_who_leaves_makes_room():
    async def test(embedder: PictureEmbedder) -> None:
        encoder = Held()
        asking = asyncio.ensure_future(embed(embedder, PICTURES[0], encoder))
        while not encoder.begun.is_set():
            await asyncio.sleep(0)
        with pytest.raises(Problem):
            embedder.check_room()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        embedder.check_room()
        encoder.go.set()

    run(test, max_waiting_pictures=1)
