"""Choosing what a search spends, by measurement: the fastest settings that reach the target recall."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from index_builder.build.exact_neighbours import Queries, recall
from index_builder.search.engine import Engine, Settings, TreeEngine
from index_builder.search.own_rows import without_own
from store.errors import UserError
from store.measured import CurvePoint

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
Truth = tuple[Int64, Float32]

MARGIN = 0.005
"""Settings are chosen a little above the target, as they are measured again on queries that did not choose them."""

_LEAF_SHARES = (1 / 64, 1 / 32, 1 / 16, 3 / 32, 1 / 8, 3 / 16, 1 / 4, 3 / 8, 1 / 2, 1)
_FIRST_PER_K = (80, 40, 20, 10)
_MANY_LEAVES = 0.15
"""Below this share of leaves the most first candidates are not tried: they find what more leaves find sooner."""

_CANDIDATES_PER_K = (2, 3, 4, 5, 6, 8, 10, 15, 20, 40, 80)
_TIMED_QUERIES = 40
_ROUNDS = 3
_LEAST_GAIN = 0.0005
_TIMED_BELOW_TARGET = 0.06


@dataclasses.dataclass(frozen=True, slots=True)
class Trial:
    """Settings and what they were measured to give.

    Attributes:
        dimensions: Of the projection.
        settings: What was spent.
        recall: recall@k over the queries that choose settings.
        latency_ms: Median milliseconds of one query, alone, in one thread.
    """

    dimensions: int
    settings: Settings
    recall: float
    latency_ms: float

    def to_point(self) -> CurvePoint:
        """A point of the manifest's curve."""
        return CurvePoint(
            recall=round(self.recall, 5),
            latency_ms=round(self.latency_ms, 5),
            queries_per_s=round(1000 / self.latency_ms, 1),
            dimensions=self.dimensions,
            leaves_to_search=self.settings.leaves_to_search,
            first_candidates=self.settings.first_candidates,
            candidates=self.settings.candidates,
        )

    @classmethod
    def from_point(cls, point: CurvePoint, k: int) -> Trial:
        """Reads what `to_point` made, chosen for k neighbours.

        Raises:
            ValueError: The point has no settings.
        """
        dimensions, leaves, first = point.dimensions, point.leaves_to_search, point.first_candidates
        if dimensions is None or leaves is None or first is None or point.candidates is None:
            raise ValueError(f"expected the settings of a search in a tree, found {point.to_dict()}")
        return cls(dimensions, Settings(leaves, first, point.candidates, k), point.recall, point.latency_ms)


def answers(engine: Engine, queries: Queries, k: int) -> Int64:
    """int64[q, k]: the engine's answers to queries that are rows of it, each kept out of its own answer."""
    return without_own(engine.nearest(queries.vectors, k + 1)[0], queries.rows, k)


def try_settings(
    engine: TreeEngine, leaves: int, dimensions: int, queries: Queries, truth: Truth, k: int, target: float
) -> list[Trial]:
    """Measures a grid of settings.

    Args:
        engine: Whatever it searches.
        leaves: Of a shard's tree.
        dimensions: Of the projection, for the record.
        queries: Rows to look for the neighbours of.
        truth: Their exact neighbours among what the engine holds.
        k: Neighbours wanted.
        target: Recall to reach: settings far below it are not timed.

    Returns:
        A trial for all settings that came near the target, and the best of those that did not.

    Raises:
        UserError: No setting finds k neighbours.
    """
    trials = []
    best_recall = 0.0
    for share in _LEAF_SHARES:
        firsts = [k * factor for factor in _FIRST_PER_K[share < _MANY_LEAVES :]]
        settings = [*_recalls(engine, max(1, round(leaves * share)), firsts, queries, truth, k)]
        if not settings:
            continue  # so few leaves hold less than k rows
        top = max(found for _, found in settings)
        for setting, found in settings:
            if found >= min(target - _TIMED_BELOW_TARGET, top):
                trials.append(Trial(dimensions, setting, found, _latency_ms(engine.with_settings(setting), queries, k)))
        if top < best_recall + 2 * _LEAST_GAIN and top >= target:
            break  # more leaves find no more
        best_recall = max(best_recall, top)
    if not trials:
        raise UserError(f"--k {k}: expected fewer neighbours than a shard's trees can find; use a smaller k")
    return trials


def repeat_trials(engine: TreeEngine, trials: Sequence[Trial], queries: Queries, truth: Truth, k: int) -> list[Trial]:
    """The settings of some trials, measured on another engine; see `try_settings`."""
    repeated = []
    for trial in trials:
        searching = engine.with_settings(trial.settings)
        found = recall(answers(searching, queries, k), truth, k)
        repeated.append(Trial(trial.dimensions, trial.settings, found, _latency_ms(searching, queries, k)))
    return repeated


def _recalls(
    engine: TreeEngine, leaves: int, firsts: list[int], queries: Queries, truth: Truth, k: int
) -> Iterator[tuple[Settings, float]]:
    """Recall for each number of first candidates and of candidates, ranking every candidate again only once."""
    known = _Scores(engine, queries)
    for first in firsts:
        rows = _padded([rows for rows, _ in engine.candidates(queries.vectors, Settings(leaves, first, first, k))])
        scores = known.of(rows)
        reached = -1.0
        for count in (min(k * factor, rows.shape[1]) for factor in _CANDIDATES_PER_K):
            if count < k + 1:
                continue
            best = np.argsort(-scores[:, :count], axis=1, kind="stable")[:, : k + 1]
            found = recall(without_own(np.take_along_axis(rows, best, 1), queries.rows, k), truth, k)
            if found > reached + _LEAST_GAIN:
                yield Settings(leaves, first, count, k), found
                reached = found


def _padded(rows: list[npt.NDArray[Any]]) -> Int64:
    """int64[q, m], -1 where a query has fewer."""
    padded = np.full((len(rows), max(map(len, rows))), -1, np.int64)
    for number, of_one in enumerate(rows):
        padded[number, : len(of_one)] = of_one
    return padded


class _Scores:
    """Scores of candidates, each worked out once: fewer first candidates are a subset of more."""

    def __init__(self, engine: TreeEngine, queries: Queries) -> None:
        self._engine = engine
        self._queries = queries
        self._keys = np.zeros(0, np.int64)
        self._scores = np.zeros(0, np.float32)

    def of(self, rows: Int64) -> Float32:
        """float32[q, m] for int64[q, m] rows; minus infinity where there is none."""
        keys = np.where(rows >= 0, rows + np.arange(len(rows))[:, None] * (1 << 40), -1)
        new = ~np.isin(keys, self._keys) & (rows >= 0)
        fresh = [
            self._engine.score(of_one[there], query)
            for of_one, there, query in zip(rows, new, self._queries.vectors, strict=True)
        ]
        all_keys = np.concatenate([self._keys, keys[new]])
        order = np.argsort(all_keys)
        self._keys, self._scores = all_keys[order], np.concatenate([self._scores, *fresh])[order]
        scores = np.full(rows.shape, -np.inf, np.float32)
        scores[rows >= 0] = self._scores[np.searchsorted(self._keys, keys[rows >= 0])]
        return scores


def _latency_ms(engine: Engine, queries: Queries, k: int) -> float:
    return float(np.min([np.median(latencies_ms(engine, queries, k, _TIMED_QUERIES)) for _ in range(_ROUNDS)]))


def latencies_ms(engine: Engine, queries: Queries, k: int, most: int) -> npt.NDArray[np.float64]:
    """Milliseconds of each of the first queries, one at a time."""
    taken = []
    for number in range(min(most, len(queries.rows))):
        query = queries.vectors[number : number + 1]
        began = time.perf_counter()
        engine.nearest(query, k)
        taken.append(time.perf_counter() - began)
    return np.array(taken, np.float64) * 1000


def pareto(trials: list[Trial]) -> list[Trial]:
    """The trials that no other beats in both recall and latency, rising in both."""
    front: list[Trial] = []
    for trial in sorted(trials, key=lambda trial: (trial.latency_ms, -trial.recall)):
        if not front or trial.recall > front[-1].recall:
            front.append(trial)
    return front


def fastest(trials: list[Trial], target: float) -> Trial:
    """The fastest trial at or above a recall; where none is, the one of the highest recall."""
    reaching = [trial for trial in trials if trial.recall >= target]
    if reaching:
        return min(reaching, key=lambda trial: trial.latency_ms)
    return max(trials, key=lambda trial: trial.recall)
