"""Searches in threads: what waits is searched together, as far as it asks for the same."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from index_builder.neighbours import Query, answer
from index_builder.searcher import Hit, Searcher
from serving import metrics
from serving.options import ServeOptions
from serving.problem import Problem, busy
from serving.work_queue import Full, WorkQueue, call_each
from store.errors import UserError

Item = TypeVar("Item")
Answer = TypeVar("Answer")

# More at once holds up what comes next for longer than it saves.
_MAX_BATCH = 32


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


class SearchThreads:
    """Threads that search, and others that look up ids, which may read a whole column."""

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
        self._looking: WorkQueue[Callable[[], Any], Any] = WorkQueue(
            "look-up", call_each, max_waiting=self._most, threads=max(2, options.threads)
        )

    def check_room(self) -> None:
        """Turns a search away before its body is read: reading thousands of numbers is half of the work.

        Raises:
            Problem: 503, as many searches are in the house as may be.
        """
        if self._in_house >= self._most:
            metrics.REFUSED.labels("queries_full").inc()
            raise busy(f"{self._in_house} searches are waiting", self._searching.retry_after_s)

    async def search(self, search: Search) -> list[list[Hit]]:
        """The answers to each query, best first.

        Raises:
            Problem: 422, no row has an attribute that is asked for; 503, too many searches wait.
        """
        self._in_house += 1
        metrics.QUERIES_WAITING.inc()
        try:
            return await _settled(self._searching, search)
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
        self._looking.close()


async def _settled(queue: WorkQueue[Item, Answer], item: Item, missing: int = 422) -> Answer:
    try:
        return await queue.submit(item)
    except Full as full:
        metrics.REFUSED.labels("queries_full").inc()
        raise busy(f"{queue.waiting} searches are waiting", full.retry_after_s) from full
    except UserError as error:
        raise Problem(missing, str(error)) from error


def _search(batch: Sequence[Search]) -> list[list[list[Hit]] | Exception]:
    groups: dict[object, list[int]] = {}
    for place, search in enumerate(batch):
        own = max(len(query.own) for query in search.queries)
        groups.setdefault((id(search.searcher), search.k, own, search.where, search.group_by), []).append(place)
    answers: list[list[list[Hit]] | Exception] = [Problem(500, "not searched")] * len(batch)
    for places in groups.values():
        first = batch[places[0]]
        queries = [query for place in places for query in batch[place].queries]
        started_s = time.monotonic()
        found: list[list[Hit]] | Exception
        try:
            found = answer(first.searcher, queries, first.k, dict(first.where), first.group_by)
        except Exception as error:  # its own; the other groups have nothing to do with it
            for place in places:
                answers[place] = error
            continue
        finally:
            metrics.SEARCH_S.observe(time.monotonic() - started_s)
            metrics.BATCH_QUERIES.observe(len(queries))
        start = 0
        for place in places:
            count = len(batch[place].queries)
            answers[place] = found[start : start + count]
            start += count
    return answers
