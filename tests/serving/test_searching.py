"""Searches that are made together find what each would find alone."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from index_builder.search.neighbours import Query, answer, query_of_image, query_of_item
from index_builder.search.searcher import Hit, Searcher
from serving import searching
from serving.options import ServeOptions
from serving.problem import Problem
from serving.searching import Search, SearchThreads
from store.errors import UserError
from tests.support.serving import ODD_ID, ServedStore, query_vector


@pytest.fixture(scope="module")
def searcher(served_store: ServedStore) -> Searcher:
    return Searcher.open(served_store.uri)


def run(test: Callable[[SearchThreads], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def start() -> None:
        threads = SearchThreads(ServeOptions("store", **{"threads": 1, **options}))
        try:
            await asyncio.wait_for(test(threads), 30)
        finally:
            threads.close()

    asyncio.run(start())


@pytest.fixture
def held(monkeypatch) -> Iterator[threading.Event]:
    """Holds the first search up until it is set."""
    go = threading.Event()
    calls = itertools.count()

    def hold(*arguments: Any) -> list[list[Hit]]:
        if not next(calls):
            assert go.wait(120)
        return answer(*arguments)

    monkeypatch.setattr(searching, "answer", hold)
    yield go
    go.set()


def close_to(found: Sequence[Sequence[Hit]], expected: Sequence[Sequence[Hit]]) -> bool:
    """Scores of several queries at once are those of one at a time but for rounding."""
    for hits, alone in zip(found, expected, strict=True):
        if [hit.image_id for hit in hits] != [hit.image_id for hit in alone]:
            return False
        np.testing.assert_allclose([hit.score for hit in hits], [hit.score for hit in alone], atol=1e-6)
    return True


def test_what_waits_is_searched_together_and_every_one_gets_its_own_answers(searcher, held):
    outside = [Query(np.asarray(query_vector(seed), np.float32)) for seed in range(4)]
    own = [query_of_image(searcher, ODD_ID), query_of_item(searcher, "sku-3")]
    wheres: list[tuple[tuple[str, str], ...]] = [(), (("category", "shoe"),)]
    searches = [
        Search(searcher, queries, k, where, group_by)
        for queries in ((outside[0],), tuple(outside[1:]), (own[0],), (own[1], outside[2]))
        for k in (1, 5)
        for where in wheres
        for group_by in (None, "item")
    ]

    async def test(threads: SearchThreads) -> None:
        first = asyncio.ensure_future(threads.search(searches[0]))
        await asyncio.sleep(0)
        others = [asyncio.ensure_future(threads.search(search)) for search in searches]
        await asyncio.sleep(0)
        held.set()
        found = await asyncio.gather(first, *others)
        for search, hits in zip([searches[0], *searches], found, strict=True):
            alone = answer(searcher, search.queries, search.k, dict(search.where), search.group_by)
            assert close_to(hits, alone)

    run(test)


def test_one_index_is_searched_once_for_all_who_ask_the_same(searcher, held, monkeypatch):
    sizes: list[int] = []
    hold = vars(searching)["answer"]

    def count(asked: Searcher, queries: Sequence[Query], *rest: Any) -> list[list[Hit]]:
        sizes.append(len(queries))
        return hold(asked, queries, *rest)

    monkeypatch.setattr(searching, "answer", count)
    another = Searcher(searcher.manifest, searcher._engine, searcher.rows)

    async def test(threads: SearchThreads) -> None:
        query = Query(np.asarray(query_vector(), np.float32))
        asking = [asyncio.ensure_future(threads.search(Search(searcher, (query,), 1)))]
        while not sizes:
            await asyncio.sleep(0)
        for asked, k, queries in ((searcher, 3, 1), (searcher, 3, 2), (searcher, 4, 1), (another, 3, 1)):
            asking.append(asyncio.ensure_future(threads.search(Search(asked, (query,) * queries, k))))
        await asyncio.sleep(0)
        held.set()
        assert [len(hits) for hits in await asyncio.gather(*asking)] == [1, 1, 2, 1, 1]

    run(test)
    assert sizes == [1, 3, 1, 1]


@pytest.mark.parametrize("error", [UserError("no row has that"), ValueError("the mean of them has no direction")])
def test_one_that_cannot_be_answered_takes_nothing_from_the_others(searcher, held, monkeypatch, error):
    hold = vars(searching)["answer"]

    def fail(asked: Searcher, queries: Sequence[Query], k: int, where: Mapping[str, str], by: str | None) -> Any:
        if k == 7:
            raise error
        return hold(asked, queries, k, where, by)

    monkeypatch.setattr(searching, "answer", fail)

    async def test(threads: SearchThreads) -> None:
        query = Query(np.asarray(query_vector(), np.float32))
        asking = [asyncio.ensure_future(threads.search(Search(searcher, (query,), k))) for k in (1, 2, 7, 3)]
        await asyncio.sleep(0)
        held.set()
        first, second, failed, last = await asyncio.gather(*asking, return_exceptions=True)
        assert [len(hits[0]) for hits in (first, second, last)] == [1, 2, 3]  # type: ignore[index]
        if isinstance(error, UserError):
            assert isinstance(failed, Problem)
            assert (failed.status, failed.detail) == (422, "no row has that")
        else:
            assert failed is error

    run(test)


def test_one_too_many_is_told_to_come_back_if_possible_before_its_body_is_read(searcher, held):
    async def test(threads: SearchThreads) -> None:
        search = Search(searcher, (Query(np.asarray(query_vector(), np.float32)),), 1)
        threads.check_room()
        asking = [asyncio.ensure_future(threads.search(search))]
        await asyncio.sleep(0)
        while threads._searching.waiting:  # until it is being worked on
            await asyncio.sleep(0)
        with pytest.raises(Problem) as problem:
            threads.check_room()
        assert (problem.value.status, problem.value.headers) == (503, {"Retry-After": "1"})
        asking += [asyncio.ensure_future(threads.search(search)) for _ in range(3)]  # whose bodies were being read
        await asyncio.sleep(0)
        with pytest.raises(Problem, match="3 searches are waiting") as problem:
            await threads.search(search)
        assert (problem.value.status, problem.value.headers) == (503, {"Retry-After": "1"})
        held.set()
        assert len(await asyncio.gather(*asking)) == 4
        threads.check_room()

    run(test, max_waiting_queries=1, max_waiting_pictures=2)


QUERY = Query(np.asarray(query_vector(), np.float32))


@pytest.mark.parametrize(
    ("queries", "k", "group_by", "heavy"),
    [
        ([QUERY], 1000, None, False),
        ([QUERY] * 64, 15, None, False),
        ([QUERY] * 64, 16, None, True),
        ([QUERY], 250, "item", False),
        ([QUERY], 251, "item", True),
        ([Query(QUERY.vector, frozenset(range(995)))], 10, None, True),
        ([Query(QUERY.vector, frozenset(range(995)))], 10, "item", False),
    ],
)
def test_a_search_is_heavy_by_what_is_looked_for(searcher, queries, k, group_by, heavy):
    assert Search(searcher, tuple(queries), k, (), group_by).is_heavy == heavy


def test_light_searches_are_answered_while_heavy_ones_wait_of_which_there_are_few(searcher, held, monkeypatch):
    monkeypatch.setattr(searching, "_MAX_WAITING_HEAVY", 2)
    heavy, light = Search(searcher, (QUERY,) * 2, 800), Search(searcher, (QUERY,), 3)

    async def test(threads: SearchThreads) -> None:
        first = asyncio.ensure_future(threads.search(heavy))
        await asyncio.sleep(0)
        while threads._searching_long.waiting:  # until it is being worked on
            await asyncio.sleep(0)
        second = asyncio.ensure_future(threads.search(heavy))
        similar = asyncio.ensure_future(threads.similar(searcher, "sku-3", 2, ()))
        await asyncio.sleep(0)
        for asked in (threads.search(heavy), threads.similar(searcher, "sku-3", 2, ())):
            with pytest.raises(Problem, match="2 searches are waiting") as problem:
                await asked
            assert problem.value.status == 503
        for _ in range(3):
            assert len((await threads.search(light))[0]) == 3
        assert not first.done()
        held.set()
        alone = answer(searcher, heavy.queries, heavy.k, None, None)
        assert close_to(await first, alone)
        assert close_to(await second, alone)
        assert len(await similar) == 2

    run(test)


def test_similar_items_of_no_item_are_not_there(searcher):
    async def test(threads: SearchThreads) -> None:
        with pytest.raises(Problem, match="nothing-like-it") as problem:
            await threads.similar(searcher, "nothing-like-it", 2, ())
        assert problem.value.status == 404

    run(test)


def test_a_look_up_finds_or_says_that_there_is_no_such_thing(searcher):
    async def test(threads: SearchThreads) -> None:
        assert await threads.look_up(lambda: searcher.find_image(ODD_ID)) == searcher.find_image(ODD_ID)
        with pytest.raises(Problem, match="nothing-like-it") as problem:
            await threads.look_up(lambda: searcher.find_image("nothing-like-it"))
        assert problem.value.status == 404

    run(test)
