from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from index_builder.search.own_rows import shown_columns, without_own


@given(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=6), st.integers(1, 7))
def test_shown_answers_keep_their_order_and_hidden_ones_come_last(hidden, k):
    columns = shown_columns(np.array(hidden), k)
    for flags, found in zip(hidden, columns.tolist(), strict=True):
        shown = [column for column in range(5) if not flags[column]]
        assert found == [*shown, *(column for column in range(5) if flags[column])][:k]


def test_a_row_is_left_out_of_its_own_answer_or_else_the_last_is():
    found = np.array([[7, 1, 2], [1, 7, 2], [1, 2, 7], [1, 2, 3], [1, -1, -1]])
    expected = [[1, 2], [1, 2], [1, 2], [1, 2], [1, -1]]
    np.testing.assert_array_equal(without_own(found, np.array([7, 7, 7, 9, 9]), 2), expected)
