"""Retrieval quality over labels: precision@1, recall@k and mAP@k with bootstrap intervals, and the worst confusions.

For a query with R relevant rows in the index (its own row not counted), and its k best answers:

* precision@1: 1 where the first answer is relevant, else 0.
* recall@k: relevant answers among the first k, divided by min(k, R), so that 1 can be reached where R > k.
* AP@k: the sum of precision@i over the places i up to k that hold a relevant answer, divided by min(k, R) (the
  truncated average precision of image retrieval benchmarks such as Google Landmarks). mAP@k is its mean.

Intervals are percentile bootstrap intervals (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section
13.3): queries are drawn again with replacement. Queries are taken as independent, so that many views of one item make
them too narrow.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from store.errors import UserError

__all__ = ["Confusion", "Estimate", "Evaluation", "Quality", "measure_retrieval"]

Float64 = npt.NDArray[np.float64]

_INTERVAL_PERCENT = (2.5, 97.5)
_DRAWN_AT_ONCE = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over queries with its 95% bootstrap interval; all from 0 to 1."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """As JSON, rounded to 5 digits."""
        return {name: round(value, 5) for name, value in dataclasses.asdict(self).items()}


@dataclasses.dataclass(frozen=True, slots=True)
class Quality:
    """Retrieval quality over some queries.

    Attributes:
        queries: How many there are, each with at least one relevant row.
        precision_at_1: Share of queries whose first answer is relevant.
        recall_at_k: As the module defines it.
        map_at_k: As the module defines it.
    """

    queries: int
    precision_at_1: Estimate
    recall_at_k: Estimate
    map_at_k: Estimate

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "queries": self.queries,
            "precision_at_1": self.precision_at_1.to_dict(),
            "recall_at_k": self.recall_at_k.to_dict(),
            "map_at_k": self.map_at_k.to_dict(),
        }


@dataclasses.dataclass(frozen=True, slots=True)
class Confusion:
    """Queries of one label whose first answer has another.

    Attributes:
        label: The queries' own.
        found: The first answers'; None where the answer has no label.
        count: How many queries.
        examples: Numbers of some of these queries, rising.
    """

    label: str
    found: str | None
    count: int
    examples: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {**dataclasses.asdict(self), "examples": list(self.examples)}


@dataclasses.dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured.

    Attributes:
        k: Answers looked at for each query.
        overall: Over all queries that have a relevant row.
        without_relevant: Queries left out, as no row of the index is relevant to them.
        per_label: By label, in its order.
        confusions: The most frequent first.
    """

    k: int
    overall: Quality
    without_relevant: int
    per_label: dict[str, Quality]
    confusions: tuple[Confusion, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "k": self.k,
            **self.overall.to_dict(),
            "without_relevant": self.without_relevant,
            "per_label": {label: quality.to_dict() for label, quality in self.per_label.items()},
            "confusions": [confusion.to_dict() for confusion in self.confusions],
        }


def measure_retrieval(
    answers: Sequence[Sequence[str | None]],
    labels: Sequence[str],
    relevant_rows: Sequence[int] | npt.NDArray[np.int64],
    k: int,
    *,
    resamples: int = 1_000,
    most_confusions: int = 20,
    most_examples: int = 4,
    seed: int = 0,
) -> Evaluation:
    """Measures how well answers have their query's label.

    Args:
        answers: For each of n queries the labels of its answers, best first; None for an answer without a label. What
            is beyond k is not looked at, and there may be fewer.
        labels: n labels of the queries.
        relevant_rows: n counts of the rows that a perfect search could find: those of the query's label, the query's
            own row not among them.
        k: Answers to look at, from 1.
        resamples: Bootstrap samples; time grows with them, and the intervals' own noise shrinks.
        most_confusions: Confusions to list.
        most_examples: Queries to name for each.
        seed: Of the bootstrap.

    Raises:
        UserError: No query has a relevant row: there is nothing to measure.
        ValueError: k below 1, lengths that differ, or more relevant answers than relevant rows.
    """
    relevant, totals = _relevant(answers, labels, relevant_rows, k)
    counted = _queries_with_relevant(totals)
    values = _values(relevant[counted], totals[counted], k)
    rng = np.random.default_rng(seed)
    return Evaluation(
        k=k,
        overall=_quality(values, resamples, rng),
        without_relevant=len(labels) - len(counted),
        per_label=_quality_per_label(values, [labels[number] for number in counted], resamples, rng),
        confusions=_confusions(answers, labels, counted, most_confusions, most_examples),
    )


def _queries_with_relevant(totals: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    counted = np.flatnonzero(totals > 0)
    if not len(counted):
        raise UserError(
            f"expected queries whose label some other row of the index has, found none among {len(totals)}; "
            "is it the right label?"
        )
    return counted


def _relevant(
    answers: Sequence[Sequence[str | None]],
    labels: Sequence[str],
    relevant_rows: Sequence[int] | npt.NDArray[np.int64],
    k: int,
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """bool[n, k]: the answer has the query's label; int64[n]: relevant rows."""
    if k < 1:
        raise ValueError(f"k: expected a whole number from 1, found {k}")
    totals = np.asarray(relevant_rows, np.int64)
    if not len(answers) == len(labels) == len(totals):
        raise ValueError(
            f"expected as many answers as labels and counts, found {len(answers)}, {len(labels)} and {len(totals)}"
        )
    relevant = np.zeros((len(labels), k), bool)
    for number, (label, found) in enumerate(zip(labels, answers, strict=True)):
        top = found[:k]
        relevant[number, : len(top)] = [other == label for other in top]
    too_many = np.flatnonzero(relevant.sum(axis=1) > totals)
    if len(too_many):
        number = int(too_many[0])
        raise ValueError(
            f"query {number}: expected at most its {totals[number]} relevant rows, found {relevant[number].sum()}"
        )
    return relevant, totals


def _values(relevant: npt.NDArray[np.bool_], totals: npt.NDArray[np.int64], k: int) -> Float64:
    """float64[n, 3]: precision@1, recall@k and AP@k of each query."""
    reachable = np.minimum(k, totals)
    found = np.cumsum(relevant, axis=1)
    precisions = found / np.arange(1, k + 1)
    average = (precisions * relevant).sum(axis=1) / reachable
    return np.stack([relevant[:, 0], found[:, -1] / reachable, average], axis=1).astype(np.float64)


def _quality(values: Float64, resamples: int, rng: np.random.Generator) -> Quality:
    count = len(values)
    at_once = max(1, _DRAWN_AT_ONCE // count)
    means = [
        values[rng.integers(count, size=(min(at_once, resamples - start), count))].mean(axis=1)
        for start in range(0, resamples, at_once)
    ]
    low, high = np.percentile(np.concatenate(means), _INTERVAL_PERCENT, axis=0)
    # Rounding in the sums must not put an interval a hair beside the value that all queries share.
    value = values.mean(axis=0)
    low, high = np.minimum(low, value), np.maximum(high, value)
    return Quality(count, *(Estimate(*map(float, parts)) for parts in zip(value, low, high, strict=True)))


def _quality_per_label(
    values: Float64, labels: Sequence[str], resamples: int, rng: np.random.Generator
) -> dict[str, Quality]:
    places: dict[str, list[int]] = collections.defaultdict(list)
    for place, label in enumerate(labels):
        places[label].append(place)
    return {label: _quality(values[places[label]], resamples, rng) for label in sorted(places)}


def _confusions(
    answers: Sequence[Sequence[str | None]],
    labels: Sequence[str],
    counted: npt.NDArray[np.int64],
    most: int,
    most_examples: int,
) -> tuple[Confusion, ...]:
    queries: dict[tuple[str, str | None], list[int]] = collections.defaultdict(list)
    for number in counted.tolist():
        if answers[number] and answers[number][0] != labels[number]:
            queries[labels[number], answers[number][0]].append(number)
    ranked = sorted(queries.items(), key=lambda pair: (-len(pair[1]), pair[0][0], pair[0][1] or ""))
    return tuple(
        Confusion(label, found, len(numbers), tuple(numbers[:most_examples]))
        for (label, found), numbers in ranked[:most]
    )
