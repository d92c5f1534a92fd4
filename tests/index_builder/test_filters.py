"""Recall where only some rows may be answers: as high as a version promises without a filter, whatever the filter."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks.vectors import SyntheticCatalog
from index_builder.build.exact_neighbours import ExactSearch, Queries, recall
from index_builder.search.engine import Engine
from index_builder.search.own_rows import without_own
from index_builder.search.searcher import Searcher
from tests.index_builder.conftest import DIMENSION, ROWS, Indexed

K = 10
SHARES = (0.9, 0.5, 0.3, 0.05, 0.001)


@pytest.fixture(scope="module")
def searcher(sharded: Indexed) -> Searcher:
    return sharded.open()


@pytest.fixture(scope="module")
def catalog() -> SyntheticCatalog:
    return SyntheticCatalog.draw(ROWS, seed=1, dimensions=DIMENSION)


@pytest.fixture(scope="module")
def queries(sharded: Indexed) -> Queries:
    return sample(sharded, 400, seed=4)


@pytest.fixture(scope="module")
def just_enough(sharded: Indexed, searcher: Searcher, queries: Queries) -> Engine:
    """Settings that rank so few rows again that they reach the target, and hardly more: nothing hides a loss."""
    truth = nearest_of(sharded, queries, np.ones(ROWS, bool), K)
    for candidates in range(K + 5, 60):
        engine = searcher.with_settings(leaves_to_search=ROWS, first_candidates=400, candidates=candidates)._engine
        found = without_own(engine.nearest(queries.vectors, K + 1)[0], queries.rows, K)
        if recall(found, truth, K) >= sharded.manifest.recall.target:
            return engine
    raise AssertionError("no setting reaches the target")


def sample(sharded: Indexed, count: int, seed: int) -> Queries:
    rows = np.sort(np.random.default_rng(seed).choice(ROWS, count, replace=False))
    return Queries(rows, sharded.vectors[rows])


def nearest_of(sharded: Indexed, queries: Queries, mask: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Of the rows that the mask admits, each compared with every query; see `ExactSearch.best`."""
    admitted = np.flatnonzero(mask)
    own = np.where(mask[queries.rows], np.searchsorted(admitted, queries.rows), -1)
    exact = ExactSearch(Queries(own, queries.vectors), k)
    exact.show(0, sharded.vectors[admitted])
    rows, scores = exact.best()
    return np.where(rows < 0, -1, admitted[rows]), scores


def filtered_recall(sharded: Indexed, engine: Engine, queries: Queries, mask: np.ndarray, k: int = K) -> float:
    found, _ = engine.nearest_where(queries.vectors, k + 1, mask)
    assert mask[found[found >= 0]].all()
    assert ((found >= 0).sum(axis=1) == min(k + 1, mask.sum())).all()
    return recall(without_own(found, queries.rows, k), nearest_of(sharded, queries, mask, k), k)


def mask_of(sharded: Indexed, kind: str, share: float, generator: np.random.Generator) -> np.ndarray:
    """bool[n]: that share of the rows, chosen at random, or those that are like (or unlike) one of the catalog's."""
    pivot = sharded.vectors[generator.integers(ROWS)]
    likeness = {"random": generator.random(ROWS), "like": sharded.vectors @ pivot, "unlike": -(sharded.vectors @ pivot)}
    mask = np.zeros(ROWS, bool)
    mask[np.argsort(-likeness[kind], kind="stable")[: max(1, round(share * ROWS))]] = True
    return mask


@pytest.mark.parametrize("kind", ["random", "like", "unlike"])
@pytest.mark.parametrize("share", SHARES)
def test_a_filter_keeps_to_the_recall_target(
    sharded: Indexed, just_enough: Engine, queries: Queries, share: float, kind: str
) -> None:
    mask = mask_of(sharded, kind, share, np.random.default_rng(5))
    assert filtered_recall(sharded, just_enough, queries, mask) >= sharded.manifest.recall.target


def test_without_what_is_nearest_the_rest_is_found_as_well(
    sharded: Indexed, just_enough: Engine, catalog: SyntheticCatalog
) -> None:
    """Filters as people use them: not this product again, nothing of this category."""
    category = catalog.category_of_item[catalog.item_of_row]
    for group in (catalog.item_of_row, category):
        recalls = []
        for row in sample(sharded, 150, seed=6).rows.tolist():
            one = Queries(np.array([row]), sharded.vectors[[row]])
            recalls.append(filtered_recall(sharded, just_enough, one, group != group[row]))
        assert np.mean(recalls) >= sharded.manifest.recall.target


def test_a_filter_that_admits_every_row_finds_what_no_filter_finds(sharded: Indexed, just_enough: Engine) -> None:
    some = sample(sharded, 200, seed=7).vectors
    without, _ = just_enough.nearest(some, K)
    everything, _ = just_enough.nearest_where(some, K, np.ones(ROWS, bool))
    assert np.mean(without == everything) >= 0.999


def test_a_filter_that_admits_nothing_finds_nothing(sharded: Indexed, searcher: Searcher) -> None:
    rows, scores = searcher._engine.nearest_where(sharded.vectors[:3], 5, np.zeros(ROWS, bool))
    assert (rows == -1).all()
    assert np.isnan(scores).all()


def test_any_filter_agrees_with_brute_force(sharded: Indexed, searcher: Searcher) -> None:
    """Each example within what chance allows so few queries, all of them together at the target."""
    target = sharded.manifest.recall.target
    found: list[float] = []

    @settings(max_examples=40, deadline=None)
    @given(
        seed=st.integers(0, 10**6),
        share=st.floats(0.0005, 1),
        k=st.integers(1, 30),
        kind=st.sampled_from(["random", "like", "unlike"]),
    )
    @example(seed=0, share=1.0, k=1, kind="random")
    def check(seed: int, share: float, k: int, kind: str) -> None:
        mask = mask_of(sharded, kind, share, np.random.default_rng(seed))
        of_one = filtered_recall(sharded, searcher._engine, sample(sharded, 100, seed), mask, k)
        found.append(of_one)
        assert of_one >= target - 4 * math.sqrt(target * (1 - target) / 100)

    check()
    assert np.mean(found) >= target


def test_what_codes_cannot_tell_apart_is_as_near(sharded: Indexed, searcher: Searcher) -> None:
    """A filter made of one query's own distances leaves thousands of rows that tie but for the codes' rounding."""
    given_away = []
    for row in sample(sharded, 40, seed=8).rows.tolist():
        true = sharded.vectors @ sharded.vectors[row]
        for share in (0.9, 0.5, 0.2):
            mask = np.zeros(ROWS, bool)
            mask[np.argsort(true, kind="stable")[: round(share * ROWS)]] = True
            rows, _ = searcher._engine.nearest_where(sharded.vectors[[row]], K, mask)
            given_away.append(np.sort(true[mask])[::-1][:K] - np.sort(true[rows[0]])[::-1])
    assert np.mean(given_away) < 0.0002
    assert np.max(given_away) < 0.003
