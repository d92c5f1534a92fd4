from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from index_builder.search.own_rows import others_first, without_own

ANSWERS = st.lists(st.lists(st.integers(0, 30), unique=True, min_size=6, max_size=6), min_size=1, max_size=4).map(
    lambda rows: np.array(rows, np.int64)
)


def test_the_own_row_is_left_out_or_else_the_last() -> None:
    found = np.array([[7, 1, 2], [1, 8, 2], [1, 2, 3]])
    np.testing.assert_array_equal(without_own(found, np.array([7, 8, 9]), 2), [[1, 2], [1, 2], [1, 2]])


def test_a_query_without_an_own_row_keeps_all_and_missing_answers_stay_missing() -> None:
    found = np.array([[4, 5, -1], [5, -1, -1], [-1, -1, -1]])
    np.testing.assert_array_equal(without_own(found, np.array([-1, 5, -1]), 2), [[4, 5], [-1, -1], [-1, -1]])


@given(ANSWERS, st.integers(1, 7), st.data())
def test_as_one_row_each_or_as_a_set_of_rows_the_answer_is_the_same(
    rows: np.ndarray, k: int, data: st.DataObject
) -> None:
    missing = data.draw(st.integers(0, 6))
    rows[:, 6 - missing :] = -1
    own = np.array([data.draw(st.integers(-1, 30)) for _ in rows], np.int64)
    found = without_own(rows, own, k)
    np.testing.assert_array_equal(found, without_own(rows, [{row} if row >= 0 else set() for row in own.tolist()], k))
    for answer, mine, left in zip(rows.tolist(), own.tolist(), found.tolist(), strict=True):
        expected = [row for row in answer if row >= 0 and row != mine][:k]
        assert left == expected + [-1] * (min(k, 6) - len(expected))


@given(ANSWERS, st.integers(1, 7), st.sets(st.integers(0, 30)))
def test_places_point_at_others_in_their_order(rows: np.ndarray, k: int, own: set[int]) -> None:
    places, there = others_first(rows, [own] * len(rows), k)
    for answer, columns, kept in zip(rows, places, there, strict=True):
        shown = columns[kept]
        assert not set(answer[shown].tolist()) & own
        assert shown.tolist() == sorted(shown.tolist())
        assert kept.tolist() == sorted(kept.tolist(), reverse=True)
