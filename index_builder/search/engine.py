"""Finding rows: by a tree and a second ranking, or by comparing with every vector. Knows vectors, not catalogs.

Nothing here is changed by a search, so that any number of threads may search at once.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from index_builder.search import int8_codes
from index_builder.search.tree import Tree
from store.measured import TreeConfig

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

CODES_FILE, SCALES_FILE, VECTORS_FILE, TREE_FOLDER = "codes.npy", "scales.npy", "vectors.npy", "scann"

_BATCH_QUERIES = 256
_FEW_ROWS = 2_048
"""A filter that leaves this many rows is answered by looking at each of them: about 2 ms."""

_DEVIATIONS = 3.0
"""How many standard deviations above what is needed a looser filter expects to pass of what it asks the tree for."""

_VALUES_PER_CANDIDATE = 256
"""One candidate more of a tree costs about what a row costs whose codes are this long: 0.1 microseconds."""


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """What a search spends.

    Attributes:
        leaves_to_search: Leaves looked into, in each shard. More: slower, higher recall.
        first_candidates: Rows that hashing passes on to int8 copies of the projected rows.
        candidates: Rows that are ranked again by their full-length codes; about a microsecond each.
        k: Neighbours these were chosen for; a search for more spends more.
    """

    leaves_to_search: int
    first_candidates: int
    candidates: int
    k: int

    @classmethod
    def of(cls, config: TreeConfig) -> Settings:
        """The settings that a version is searched with."""
        return cls(config.leaves_to_search, config.first_candidates, config.candidates, config.k)

    def for_count(self, count: int) -> Settings:
        """These settings, raised for more neighbours than they were chosen for."""
        if count <= self.k:
            return self
        more = count / self.k
        return Settings(
            math.ceil(self.leaves_to_search * math.sqrt(more)),
            math.ceil(self.first_candidates * more),
            math.ceil(self.candidates * more),
            count,
        )


class Engine(Protocol):
    """Finds rows by inner product. Queries are float32[q, D], L2-normalised; answers are padded with -1 and NaN."""

    def nearest(self, queries: Float32, count: int) -> tuple[Int64, Float32]:
        """int64[q, count] rows and float32[q, count] cosines, the best first."""

    def nearest_where(self, queries: Float32, count: int, mask: Mask) -> tuple[Int64, Float32]:
        """`nearest` among the rows that bool[n] `mask` admits."""

    def vectors(self, rows: Int64) -> Float32:
        """float32[m, D] of unit norm."""


def pick(rows: npt.NDArray[Any], scores: Float32, count: int) -> tuple[npt.NDArray[Any], Float32]:
    """The `count` best of some rows, the best first; fewer where there are fewer."""
    if len(scores) > count:
        best = np.argpartition(scores, len(scores) - count)[-count:]
        rows, scores = rows[best], scores[best]
    order = np.argsort(-scores, kind="stable")
    return rows[order], scores[order]


class _Answers:
    """Collects one answer per query into padded arrays."""

    def __init__(self, queries: int, count: int) -> None:
        self.rows = np.full((queries, count), -1, np.int64)
        self.scores = np.full((queries, count), np.nan, np.float32)

    def put(self, query: int, rows: npt.NDArray[Any], scores: Float32) -> None:
        self.rows[query, : len(rows)] = rows
        np.minimum(scores, 1, out=self.scores[query, : len(scores)])  # rounding may go a little over


class ExactEngine:
    """Compares a query with every vector. For small catalogs."""

    def __init__(self, vectors: Float32) -> None:
        self._vectors = vectors

    def nearest(self, queries: Float32, count: int) -> tuple[Int64, Float32]:
        """See `Engine`."""
        return self._search(queries, count, np.arange(len(self._vectors)))

    def nearest_where(self, queries: Float32, count: int, mask: Mask) -> tuple[Int64, Float32]:
        """See `Engine`."""
        return self._search(queries, count, np.flatnonzero(mask))

    def _search(self, queries: Float32, count: int, rows: Int64) -> tuple[Int64, Float32]:
        answers = _Answers(len(queries), count)
        vectors = self._vectors if len(rows) == len(self._vectors) else self._vectors[rows]
        for start in range(0, len(queries), _BATCH_QUERIES):
            scores = queries[start : start + _BATCH_QUERIES] @ vectors.T
            for number, of_one in enumerate(scores):
                answers.put(start + number, *pick(rows, of_one, count))
        return answers.rows, answers.scores

    def vectors(self, rows: Int64) -> Float32:
        """See `Engine`."""
        return np.asarray(self._vectors[rows], np.float32)


@dataclasses.dataclass(frozen=True)
class TreeShard:
    """One shard: its tree over projected rows and its full-length codes.

    Attributes:
        tree: Over n projected rows.
        leaves: Of the tree.
        codes: int8[n, D].
        scales: float32[n, 2], scales and offsets of the codes.
    """

    tree: Tree
    leaves: int
    codes: npt.NDArray[np.int8]
    scales: Float32

    @classmethod
    def open(cls, folder: Path, leaves: int) -> TreeShard:
        """Loads the tree and memory-maps the codes."""
        mapped = np.load(folder / CODES_FILE, mmap_mode="r").view(np.ndarray)
        scales = np.load(folder / SCALES_FILE)
        if mapped.dtype != np.int8 or scales.shape != (len(mapped), 2):
            raise ValueError(f"expected int8 codes and two numbers for each row, found {mapped.shape}, {scales.shape}")
        return cls(Tree.load(folder / TREE_FOLDER, len(scales)), leaves, mapped, scales)


class TreeEngine:
    """Searches each shard's tree and ranks the best of all shards again by their codes."""

    def __init__(self, shards: Sequence[TreeShard], projection: Float32, settings: Settings) -> None:
        self._shards = list(shards)
        self._projection = projection
        self._starts = np.concatenate([[0], np.cumsum([shard.tree.rows for shard in shards])]).astype(np.int64)
        self._rows = int(self._starts[-1])
        self.settings = settings

    def with_settings(self, settings: Settings) -> TreeEngine:
        """The same trees, searched otherwise."""
        return TreeEngine(self._shards, self._projection, settings)

    def nearest(self, queries: Float32, count: int) -> tuple[Int64, Float32]:
        """See `Engine`."""
        settings = self.settings.for_count(count)
        if len(queries) == 1:
            query = queries[0]
            rows, _ = self._candidates_of_one(query @ self._projection, settings)
            rows, scores = pick(rows, self.score(rows, query), count)
            if len(rows) == count:  # nothing to pad: 10 microseconds of 150 saved
                return rows[None].astype(np.int64), np.minimum(scores, 1)[None]
        answers = _Answers(len(queries), count)
        for number, (rows, _) in enumerate(self.candidates(queries, settings)):
            answers.put(number, *pick(rows, self.score(rows, queries[number]), count))
        return answers.rows, answers.scores

    def candidates(self, queries: Float32, settings: Settings) -> list[tuple[npt.NDArray[Any], Float32]]:
        """For each query the rows worth ranking again, at most settings.candidates, and their approximate scores."""
        if len(queries) == 1:
            return [self._candidates_of_one(queries[0] @ self._projection, settings)]
        found = []
        for start in range(0, len(queries), _BATCH_QUERIES):
            found += self._candidates_of_batch(queries[start : start + _BATCH_QUERIES] @ self._projection, settings)
        return found

    def _candidates_of_one(self, projected: Float32, settings: Settings) -> tuple[npt.NDArray[Any], Float32]:
        if len(self._shards) == 1:
            return self._shards[0].tree.search(projected, *self._spend(self._shards[0], settings))
        found = [shard.tree.search(projected, *self._spend(shard, settings)) for shard in self._shards]
        return self._merge(found, settings.candidates)

    def _candidates_of_batch(self, projected: Float32, settings: Settings) -> list[tuple[npt.NDArray[Any], Float32]]:
        by_shard = [shard.tree.search_batch(projected, *self._spend(shard, settings)) for shard in self._shards]
        merged = []
        for query in range(len(projected)):
            found = []
            for rows, scores in by_shard:
                there = ~np.isnan(scores[query])  # ScaNN pads a batch with row 0 and NaN
                found.append((rows[query][there], scores[query][there]))
            merged.append(found[0] if len(found) == 1 else self._merge(found, settings.candidates))
        return merged

    def _merge(self, found: list[tuple[npt.NDArray[Any], Float32]], count: int) -> tuple[npt.NDArray[Any], Float32]:
        rows = np.concatenate([start + rows for start, (rows, _) in zip(self._starts, found, strict=False)])
        return pick(rows, np.concatenate([scores for _, scores in found]), count)

    @staticmethod
    def _spend(shard: TreeShard, settings: Settings) -> tuple[int, int, int]:
        """ScaNN ends the process when asked for more rows than there are."""
        count = min(settings.candidates, shard.tree.rows)
        first = min(max(settings.first_candidates, count), shard.tree.rows)
        return count, first, min(settings.leaves_to_search, shard.leaves)

    def score(self, rows: npt.NDArray[Any], query: Float32) -> Float32:
        """float32[m] cosines of a query with rows, by their codes."""
        if len(self._shards) == 1:
            return int8_codes.score(self._shards[0].codes, self._shards[0].scales, rows, query)
        scores = np.empty(len(rows), np.float32)
        owners = np.searchsorted(self._starts, rows, side="right") - 1
        for number, shard in enumerate(self._shards):
            here = np.flatnonzero(owners == number)
            if len(here):
                scores[here] = int8_codes.score(shard.codes, shard.scales, rows[here] - self._starts[number], query)
        return scores

    def nearest_where(self, queries: Float32, count: int, mask: Mask) -> tuple[Int64, Float32]:
        """See `Engine`.

        A loose filter asks the tree, over all leaves, for so many candidates that as many pass as hashing lets through
        in an unfiltered search; what follows is the same. Where fewer pass (the filter turns away just what is near),
        and where it is as cheap (a tight filter), every row that passes is looked at.
        """
        matching = int(np.count_nonzero(mask))
        answers = _Answers(len(queries), count)
        settings = self.settings.for_count(count)
        needed = max(settings.first_candidates, settings.candidates)
        # Of a candidates a * matching / rows pass, give or take the root of it, if the filter knows nothing of looks.
        asked = math.ceil((needed + _DEVIATIONS * math.sqrt(needed)) * self._rows / max(1, matching))
        row_cost = max(1, len(self._projection) / _VALUES_PER_CANDIDATE)
        tree_pays = matching > _FEW_ROWS and asked < matching * row_cost
        everywhere = Settings(self._rows, asked, asked, count)
        passing: Int64 | None = None
        for number in range(len(queries)):
            rows: npt.NDArray[Any] | None = None
            if tree_pays:
                found, scores = self.candidates(queries[number : number + 1], everywhere)[0]
                passed = mask[found]
                if np.count_nonzero(passed) >= min(needed, matching):
                    rows, _ = pick(found[passed], scores[passed], settings.candidates)
            if rows is None:
                rows = passing = np.flatnonzero(mask) if passing is None else passing
            answers.put(number, *pick(rows, self.score(rows, queries[number]), count))
        return answers.rows, answers.scores

    def vectors(self, rows: Int64) -> Float32:
        """See `Engine`; restored from codes, within about 0.0002 of the original in any inner product."""
        owners = np.searchsorted(self._starts, rows, side="right") - 1
        restored = np.empty((len(rows), self._shards[0].codes.shape[1]), np.float32)
        for number, shard in enumerate(self._shards):
            here = np.flatnonzero(owners == number)
            local = rows[here] - self._starts[number]
            restored[here] = int8_codes.dequantise(shard.codes[local], shard.scales[local])
        return restored
