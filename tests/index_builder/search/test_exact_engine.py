"""The engine that compares a query with every row, and the choice of the best."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index_builder.search import engine
from index_builder.search.engine import ExactEngine, pick
from tests.support.unit_vectors import unit_vectors


@pytest.mark.parametrize("queries", [0, 1, 7, engine._BATCH_QUERIES + 2])
def test_exact_search_is_sorting(queries: int) -> None:
    vectors = unit_vectors(40, seed=1)
    asked = unit_vectors(queries, seed=2)
    mask = np.arange(40) % 3 == 0
    exact = ExactEngine(vectors)
    scores = asked @ vectors.T
    masked = np.where(mask, scores, -2)
    for (rows, cosines), of in ((exact.nearest(asked, 6), scores), (exact.nearest_where(asked, 6, mask), masked)):
        np.testing.assert_array_equal(rows, np.argsort(-of, axis=1)[:, :6])
        np.testing.assert_allclose(cosines, -np.sort(-of, axis=1)[:, :6], atol=1e-6)
    np.testing.assert_array_equal(exact.vectors(np.array([3, 1])), vectors[[3, 1]])


def test_exact_search_pads_what_is_not_there_and_no_cosine_is_over_one() -> None:
    vectors = unit_vectors(3, seed=1) * np.float32(1.0001)
    rows, scores = ExactEngine(vectors).nearest(vectors[:1], 5)
    assert rows[0, 0] == 0
    assert scores[0, 0] == 1
    assert (rows[0] < 0).tolist() == np.isnan(scores[0]).tolist() == [False, False, False, True, True]
    mask = np.array([False, True, True])
    assert sorted(ExactEngine(vectors).nearest_where(vectors[:1], 3, mask)[0][0].tolist()) == [-1, 1, 2]


@given(st.lists(st.integers(-5, 5), max_size=30), st.integers(1, 40))
def test_the_best_are_picked_in_order(scores: list[int], count: int) -> None:
    rows, kept = pick(np.arange(100, 100 + len(scores)), np.array(scores, np.float32), count)
    assert kept.tolist() == sorted(scores, reverse=True)[:count]
    assert [scores[row - 100] for row in rows] == kept.tolist()
    assert len(set(rows.tolist())) == len(rows)
