"""The answers that recall is measured against: exact search over the original float32 vectors."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

TIES = 40
"""How much deeper than k an exact search looks, so that ties with the k-th neighbour are known."""

_TIE = 1e-6


@dataclasses.dataclass(frozen=True)
class Queries:
    """Sampled rows whose neighbours are looked for.

    Attributes:
        rows: int64[q] their numbers, rising: each is kept out of its own answer.
        vectors: float32[q, D].
    """

    rows: Int64
    vectors: Float32

    def every_other(self) -> tuple[Queries, Queries]:
        """Two halves, by turns: one to choose settings with, one to measure them with."""
        return Queries(self.rows[::2], self.vectors[::2]), Queries(self.rows[1::2], self.vectors[1::2])


class ExactSearch:
    """The k best rows of each query among all vectors shown so far, by inner product in float32."""

    def __init__(self, queries: Queries, k: int) -> None:
        self._queries = queries
        self._scores = np.full((len(queries.rows), k), -np.inf, np.float32)
        self._rows = np.full((len(queries.rows), k), -1, np.int64)

    def show(self, start: int, vectors: Float32) -> None:
        """Compares rows start, start + 1, ... with every query.

        Args:
            start: Number of the first row.
            vectors: float32[n, D].
        """
        scores = self._queries.vectors @ vectors.T
        own = self._queries.rows - start
        here = np.flatnonzero((own >= 0) & (own < len(vectors)))
        scores[here, own[here]] = -np.inf
        rows = np.broadcast_to(start + np.arange(len(vectors)), scores.shape)
        self._keep_best(np.concatenate([self._scores, scores], 1), np.concatenate([self._rows, rows], 1))

    def _keep_best(self, scores: Float32, rows: Int64) -> None:
        k = self._scores.shape[1]
        best = np.argpartition(-scores, min(k, scores.shape[1]) - 1, axis=1)[:, :k]
        self._scores = np.take_along_axis(scores, best, 1)
        self._rows = np.where(np.isfinite(self._scores), np.take_along_axis(rows, best, 1), -1)

    def merge(self, rows: Int64, scores: Float32) -> None:
        """Takes in what another search found over other rows: int64[q, k], float32[q, k]."""
        self._keep_best(np.concatenate([self._scores, scores], 1), np.concatenate([self._rows, rows], 1))

    def best(self) -> tuple[Int64, Float32]:
        """int64[q, k] row numbers, the best first and -1 where there are fewer, and their float32[q, k] scores."""
        order = np.argsort(-self._scores, axis=1, kind="stable")
        return np.take_along_axis(self._rows, order, 1), np.take_along_axis(self._scores, order, 1)


def recall(found: Int64, truth: tuple[Int64, Float32], k: int) -> float:
    """Mean share of each query's k true neighbours that were found.

    Rows that tie with the k-th true neighbour count as well as it does: of twenty copies of one picture any ten are
    right. Where more rows tie than the truth is deep (a placeholder picture, hundreds of times), row numbers cannot
    tell right from wrong, and the query is left out. With nothing to find, nothing is missed: 1.

    Args:
        found: int64[q, k] row numbers, -1 where there are fewer.
        truth: int64[q, m] row numbers and float32[q, m] scores of an exact search, m of at least k, the best first, -1
            where there are fewer.
        k: Neighbours asked for.
    """
    rows, scores = truth
    right = (rows >= 0) & (scores >= scores[:, k - 1 : k] - _TIE)
    told = ~right[:, -1] if rows.shape[1] > k else np.ones(len(rows), bool)
    rows, right, found = rows[told], right[told], found[told]
    hits = ((rows[:, :, None] == found[:, None, :k]) & right[:, :, None]).any(axis=2).sum(axis=1)
    wanted = (rows[:, :k] >= 0).sum(axis=1)
    return float(np.minimum(hits, wanted).sum() / wanted.sum()) if wanted.sum() else 1.0
