from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index_builder.build.exact_neighbours import ExactSearch, Queries, recall


@given(seed=st.integers(0, 1000), rows=st.integers(2, 80), k=st.integers(1, 12), cut=st.integers(0, 80))
def test_exact_search_agrees_with_sorting_everything(seed: int, rows: int, k: int, cut: int) -> None:
    generator = np.random.default_rng(seed)
    vectors = generator.standard_normal((rows, 6)).astype(np.float32)
    own = np.sort(generator.choice(rows, min(5, rows), replace=False))
    whole, first, second = (ExactSearch(Queries(own, vectors[own]), k) for _ in range(3))
    cut = min(cut, rows)
    for start, stop in ((0, cut), (cut, rows)):
        if start < stop:
            whole.show(start, vectors[start:stop])
            (first if start == 0 else second).show(start, vectors[start:stop])
    first.merge(*second.best())
    scores = vectors[own] @ vectors.T
    scores[np.arange(len(own)), own] = -np.inf
    expected = np.argsort(-scores, axis=1)[:, :k]
    for search in (whole, first):
        found, found_scores = search.best()
        there = min(k, rows - 1)
        np.testing.assert_array_equal(found[:, :there], expected[:, :there])
        assert (found[:, there:] == -1).all()
        assert (np.diff(found_scores[:, :there], axis=1) <= 0).all()


def test_recall_counts_shares() -> None:
    truth = np.array([[1, 2, 3], [4, 5, 6]]), np.array([[0.9, 0.8, 0.7], [0.9, 0.8, 0.7]], np.float32)
    assert recall(np.array([[2, 1], [4, 9]]), truth, 2) == 0.75
    assert recall(np.array([[3, 9], [-1, -1]]), truth, 2) == 0


def test_any_of_those_that_tie_with_the_last_is_right() -> None:
    truth = np.array([[1, 2, 3, 4]]), np.array([[0.9, 0.8, 0.8, 0.7]], np.float32)
    assert recall(np.array([[1, 3]]), truth, 2) == 1
    assert recall(np.array([[2, 3]]), truth, 2) == 1
    assert recall(np.array([[1, 4]]), truth, 2) == 0.5


@pytest.mark.parametrize(("apart", "share"), [(5e-7, 1.0), (3e-6, 0.5), (5e-5, 0.5)])
def test_only_what_multiplication_alone_sets_apart_ties(apart: float, share: float) -> None:
    """A neighbour that is worse by 0.00005 is another picture, not a copy in another order: finding it is a miss."""
    scores = np.array([[0.9, 0.8, 0.8 - apart, 0.7]], np.float32)
    assert recall(np.array([[1, 3]]), (np.array([[1, 2, 3, 4]]), scores), 2) == share


def test_a_query_with_more_ties_than_the_truth_is_deep_is_left_out() -> None:
    truth = np.array([[1, 2, 3], [4, 5, 6]]), np.array([[0.9, 0.9, 0.9], [0.9, 0.8, 0.7]], np.float32)
    assert recall(np.array([[7, 8], [4, 5]]), truth, 2) == 1
    assert recall(np.array([[7, 8], [4, 9]]), truth, 2) == 0.5
    assert recall(np.array([[7, 8]]), (truth[0][:1], truth[1][:1]), 2) == 1


def test_nothing_to_find_is_not_missed() -> None:
    assert recall(np.array([[-1, -1]]), (np.full((1, 5), -1), np.full((1, 5), -np.inf, np.float32)), 2) == 1


def test_fewer_neighbours_than_k_can_all_be_found() -> None:
    truth = np.array([[1, -1, -1]]), np.array([[0.9, -np.inf, -np.inf]], np.float32)
    assert recall(np.array([[1, -1]]), truth, 2) == 1
