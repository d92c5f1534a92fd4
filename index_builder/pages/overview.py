"""What a version's report shows of its pictures: near duplicates, and a map of a sample."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from index_builder.search.rows import Hit
from index_builder.search.searcher import Searcher

__all__ = ["DuplicatePair", "MapPoint", "map_of_sample", "near_duplicates"]

NEAREST = 10
"""Neighbours looked at for each sampled row: of larger groups of duplicates some pairs are not seen."""

_PREFERRED_ATTRIBUTE = "category"
_SEARCHED_AT_ONCE = 256
_SUBSPACE = 20
_ITERATIONS = 8


@dataclasses.dataclass(frozen=True, slots=True)
class DuplicatePair:
    """Two pictures that are all but one; `score` is their cosine."""

    first: Hit
    second: Hit
    score: float


@dataclasses.dataclass(frozen=True, slots=True)
class MapPoint:
    """A picture's place on the map.

    Attributes:
        x: First principal component.
        y: Second principal component.
        image_id: The picture.
        label: Value of the attribute that colours the map; empty where the picture has none.
    """

    x: float
    y: float
    image_id: str
    label: str


def near_duplicates(
    searcher: Searcher, sample_rows: npt.ArrayLike, threshold: float = 0.98, limit: int = 50
) -> list[DuplicatePair]:
    """Pairs of pictures that are nearly the same, at least one of each pair in a sample.

    Args:
        searcher: The index.
        sample_rows: int64[m] row numbers to look for neighbours of.
        threshold: Least cosine of a pair.
        limit: Pairs at most.

    Returns:
        Each pair once, the most alike first.
    """
    sample = np.asarray(sample_rows, np.int64)
    scores: dict[tuple[int, int], float] = {}
    for start in range(0, len(sample), _SEARCHED_AT_ONCE):
        rows = sample[start : start + _SEARCHED_AT_ONCE]
        # One more than wanted, as each row finds itself.
        matches = searcher.search(searcher.vectors(rows), NEAREST + 1)
        # NaN, where there are fewer answers, is not at the threshold either.
        for query, place in np.argwhere(matches.scores >= threshold).tolist():
            pair = sorted((int(rows[query]), int(matches.rows[query, place])))
            if pair[0] != pair[1]:
                scores.setdefault((pair[0], pair[1]), float(matches.scores[query, place]))
    ranked = sorted(scores.items(), key=lambda found: (-found[1], found[0]))[:limit]
    return [
        DuplicatePair(searcher.rows.hit(first, score), searcher.rows.hit(second, score), score)
        for (first, second), score in ranked
    ]


def map_of_sample(searcher: Searcher, sample: int = 1_500, seed: int = 0) -> list[MapPoint]:
    """A random sample of the pictures on their two principal components.

    The label is the attribute `category`, or else the attribute with the fewest values, but at least two, in the
    sample: the catalog as a whole need not be read for it.

    Args:
        searcher: The index.
        sample: Pictures at most; their vectors are held in memory.
        seed: Of the sample.
    """
    count = len(searcher.rows)
    rows = np.sort(np.random.default_rng(seed).choice(count, min(sample, count), replace=False))
    hits = [searcher.rows.hit(int(row), 1.0) for row in rows]
    attribute = _colouring_attribute(hits)
    labels = [hit.attributes.get(attribute, "") if attribute else "" for hit in hits]
    places = _principal_components(searcher.vectors(rows)).tolist()
    return [MapPoint(x, y, hit.image_id, label) for (x, y), hit, label in zip(places, hits, labels, strict=True)]


def _colouring_attribute(hits: Sequence[Hit]) -> str | None:
    values: dict[str, set[str]] = {}
    for hit in hits:
        for name, value in hit.attributes.items():
            values.setdefault(name, set()).add(value)
    if _PREFERRED_ATTRIBUTE in values:
        return _PREFERRED_ATTRIBUTE
    telling = [name for name in sorted(values) if len(values[name]) > 1]
    return min(telling, key=lambda name: len(values[name]), default=None)


def _principal_components(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """float64[m, 2], by randomised subspace iteration (Halko, Martinsson and Tropp, 2011, algorithm 4.4).

    An exact decomposition of 1,500 rows takes 3 s, this 0.1 s; where variances are all but equal, any of their
    directions will do for a map.
    """
    centred = (vectors - vectors.mean(axis=0)).astype(np.float64)
    basis = np.random.default_rng(0).normal(size=(vectors.shape[1], _SUBSPACE))
    for _ in range(_ITERATIONS):
        basis, _ = np.linalg.qr(centred.T @ (centred @ basis))
    directions, sizes, _ = np.linalg.svd(centred @ basis, full_matrices=False)
    best = (directions * sizes)[:, :2]
    # A component's sign is arbitrary: one build must draw the same map as the next.
    best *= np.where(best[np.abs(best).argmax(axis=0), np.arange(best.shape[1])] < 0, -1, 1)
    return np.pad(best, ((0, 0), (0, 2 - best.shape[1])))
