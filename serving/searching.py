"""Searches in threads: what waits is searched together, as far as it asks for the same."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from index_builder.search import Hit, Query, Searcher, answer, most_own, similar_items
from serving import metrics
from serving.options import ServeOptions
from serving.problem import Problem
from serving.refusals import refused
from serving.work_queue import Full, WorkQueue, call_each
from store.errors import UserError

Item = TypeVar("Item")
Answer = TypeVar("Answer")

# More at once holds up what comes next for longer than it saves.
_MAX_BATCH = 32

_MOST_LIGHT = 1000
"""Answers that a search looks for and is still light: one of more would hold up what it is searched with."""

_MAX_WAITING_HEAVY = 16
_GROUPED_COST = 4


@dataclasses.dataclass(frozen=True, slots=True)
class Search:
    """One request's queries.

    Attributes:
        searcher: Of the version that was published when the request came.
        queries: At least one.
        k: Answers to each.
        where: Attributes that answers must have, as sorted pairs.
        group_by: "item" or None.
    """

    searcher: Searcher
    queries: tuple[Query, ...]
    k: int
    where: tuple[tuple[str, str], ...] = ()
    group_by: str | None = None

    @property
    def wanted(self) -> int:
        """Answers to look for to each query, its own rows included."""
        return self.k + most_own(self.queries, self.group_by)

    @property
    def is_heavy(self) -> bool:
        """Whether it takes long; looking for items takes about four times as long as looking for pictures."""
        return self.wanted * len(self.queries) * (_GROUPED_COST if self.group_by else 1) > _MOST_LIGHT


class SearchThreads:
    """Threads that search, one for heavy searches, and others that look up ids, which may read a whole column.

    Light searches never wait for heavy ones: a batch is answered when the last of it has been searched.
    """

    def __init__(self, options: ServeOptions) -> None:
        self._most = options.max_waiting_queries
        self._in_house = 0
        # Of those that come with a picture as many may wait as may be embedded, and none is turned away after that.
        self._searching: WorkQueue[Search, list[list[Hit]]] = WorkQueue(
            "search",
            _search,
            max_batch=_MAX_BATCH,
            max_waiting=self._most + options.max_waiting_pictures,
            threads=options.threads,
        )
        self._searching_long: WorkQueue[Callable[[], Any], Any] = WorkQueue(
            "heavy-search", call_each, max_waiting=_MAX_WAITING_HEAVY
        )
        self._looking: WorkQueue[Callable[[], Any], Any] = WorkQueue(
            "look-up", call_each, max_waiting=self._most, threads=max(2, options.threads)
        )

    def check_room(self) -> None:
        """Turns a search away before its body is read: reading thousands of numbers is half of the work.

        Raises:
            Problem: 503, as many searches are in the house as may be.
        """
        if self._in_house >= self._most:
            raise refused("queries_full", f"{self._in_house} searches are waiting", self._searching.retry_after_s)

    async def search(self, search: Search) -> list[list[Hit]]:
        """The answers to each query, best first.

        Raises:
            Problem: 422, no row has an attribute that is asked for; 503, too many searches wait.
        """
        with self._counted():
            if search.is_heavy:
                look: Callable[[], list[list[Hit]]] = functools.partial(_answer, [search])
                found: list[list[Hit]] = await _settled(self._searching_long, look)
                return found
            return await _settled(self._searching, search)

    async def similar(self, searcher: Searcher, item_id: str, k: int, where: tuple[tuple[str, str], ...]) -> list[Hit]:
        """Other items that look like one, best first. A heavy search: an item may have many pictures.

        Raises:
            Problem: 404, there is no such item; 503, too many heavy searches wait.
        """
        with self._counted():
            look: Callable[[], list[Hit]] = functools.partial(_similar, searcher, item_id, k, where)
            found: list[Hit] = await _settled(self._searching_long, look, missing=404)
            return found

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        self._in_house += 1
        metrics.QUERIES_WAITING.inc()
        try:
            yield
        finally:
            self._in_house -= 1
            metrics.QUERIES_WAITING.dec()

    async def look_up(self, look: Callable[[], Answer]) -> Answer:
        """Runs a look-up.

        Raises:
            Problem: 404, what it looks for is not there; 503, too many wait.
        """
        found: Answer = await _settled(self._looking, look, missing=404)
        return found

    def close(self) -> None:
        """Stops the threads."""
        self._searching.close()
        self._searching_long.close()
        self._looking.close()


async def _settled(queue: WorkQueue[Item, Answer], item: Item, missing: int = 422) -> Answer:
    try:
        return await queue.submit(item)
    except Full as full:
        raise refused("queries_full", f"{queue.waiting} searches are waiting", full.retry_after_s) from full
    except UserError as error:
        raise Problem(missing, str(error)) from error


def _search(batch: Sequence[Search]) -> list[list[list[Hit]] | Exception]:
    groups: dict[object, list[int]] = {}
    for place, search in enumerate(batch):
        same = id(search.searcher), search.k, search.wanted, search.where, search.group_by
        groups.setdefault(same, []).append(place)
    answers: list[list[list[Hit]] | Exception] = [Problem(500, "not searched")] * len(batch)
    for places in groups.values():
        try:
            found = _answer([batch[place] for place in places])
        except Exception as error:  # its own; the other groups have nothing to do with it
            for place in places:
                answers[place] = error
            continue
        start = 0
        for place in places:
            count = len(batch[place].queries)
            answers[place] = found[start : start + count]
            start += count
    return answers


def _answer(searches: Sequence[Search]) -> list[list[Hit]]:
    """The answers to the queries of searches that ask for the same."""
    first = searches[0]
    queries = [query for search in searches for query in search.queries]
    with _measured(len(queries)):
        return answer(first.searcher, queries, first.k, dict(first.where), first.group_by)


def _similar(searcher: Searcher, item_id: str, k: int, where: tuple[tuple[str, str], ...]) -> list[Hit]:
    with _measured(1):
        return similar_items(searcher, item_id, k, dict(where))


@contextlib.contextmanager
def _measured(queries: int) -> Iterator[None]:
    started_s = time.monotonic()
    try:
        yield
    finally:
        metrics.SEARCH_S.observe(time.monotonic() - started_s)
        metrics.BATCH_QUERIES.observe(queries)
