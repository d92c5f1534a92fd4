from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index_builder.build.exact_neighbours import Queries
from index_builder.build.measurement import RECALL_FILE, Stopwatch, measure, round_down, write_truth
from index_builder.search.engine import ExactEngine
from tests.support.unit_vectors import unit_vectors


@given(st.floats(0, 1))
def test_a_share_is_never_rounded_up(share: float) -> None:
    rounded = round_down(share)
    assert rounded == round(rounded, 5)
    assert share - 1e-5 < rounded <= share + 1e-10


def test_what_is_just_under_a_target_stays_under_it() -> None:
    assert round_down(0.949999) == 0.94999
    assert round_down(0.95) == 0.95


def test_seconds_of_one_part_add_up_also_where_it_fails() -> None:
    watch = Stopwatch()
    watch.add("train_s", 1.5)
    watch.add("train_s", 2.0)
    assert watch.seconds == {"train_s": 3.5}
    with pytest.raises(ZeroDivisionError), watch.time("read_s"):
        _ = 1 / 0
    assert watch.seconds["read_s"] > 0


def test_recall_is_measured_against_the_truth_and_the_truth_is_kept(tmp_path: Path) -> None:
    vectors = unit_vectors(40, seed=1)
    rows = np.array([3, 9])
    scores = vectors[rows] @ vectors.T
    scores[np.arange(2), rows] = -2
    best = np.argsort(-scores, axis=1)[:, :6]
    truth = best, np.take_along_axis(scores, best, 1)
    queries = Queries(rows, vectors[rows])
    assert measure(ExactEngine(vectors), queries, truth, 4) == 1
    assert measure(ExactEngine(-vectors), queries, truth, 4) == 0
    write_truth(tmp_path, queries, truth, 4)
    table = pq.read_table(tmp_path / RECALL_FILE)
    assert table["query_row"].to_pylist() == [3, 9]
    assert table["neighbour_rows"].to_pylist() == best[:, :4].tolist()
    np.testing.assert_allclose(table["neighbour_scores"].to_pylist(), truth[1][:, :4], rtol=1e-6)
