from __future__ import annotations

import numpy as np
import pytest

from benchmarks.index_data import Best, K, Questions
from benchmarks.index_measures import recall


def brute_force(vectors, queries, mask):
    answers = []
    for query in queries:
        scores = vectors @ vectors[query]
        order = [row for row in np.argsort(-scores) if mask[row] and row != query][:K]
        answers.append(order + [-1] * (K - len(order)))
    return np.array(answers)


@pytest.mark.parametrize("share", [1.0, 0.5, 0.02, 0.0])
@pytest.mark.parametrize("batch", [7, 64, 300])
def test_best_is_brute_force_without_the_query_itself(share: float, batch: int) -> None:
    rng = np.random.default_rng(4)
    vectors = rng.standard_normal((300, 16), dtype=np.float32)
    queries = np.array([0, 5, 150, 299])
    mask = rng.random(300) < share
    best = Best(queries)
    for first in range(0, 300, batch):
        part = slice(first, first + batch)
        best.add(first, vectors[queries] @ vectors[part].T, mask[part])
    np.testing.assert_array_equal(best.rows, brute_force(vectors, queries, mask))


def test_recall_counts_the_ten_best_beside_the_query_itself() -> None:
    truth = np.arange(100, 100 + K)[None]
    questions = Questions(np.array([7]), np.zeros((1, 2), np.float32), {"all": truth})
    with_itself = np.array([[100, 7, *range(101, 100 + K)]])
    without_itself = np.array([[*range(101, 100 + K), 50, 100]])
    assert recall(with_itself, questions, truth) == 1.0
    assert recall(without_itself, questions, truth) == 0.9


def test_recall_where_fewer_rows_match_is_over_those() -> None:
    truth = np.full((1, K), -1)
    truth[0, :2] = 3, 4
    questions = Questions(np.array([7]), np.zeros((1, 2), np.float32), {"all": truth})
    found = np.full((1, K + 1), -1)
    found[0, 0] = 4
    assert recall(found, questions, truth) == 0.5
