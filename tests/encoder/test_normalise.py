from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from encoder.normalise import Unit, normalise
from store.rejects import Reason, Rejected


@given(
    arrays(
        np.float32, (3, 5), elements=st.floats(-(2.0**90), 2.0**90, width=32).filter(lambda x: x == 0 or abs(x) > 1e-20)
    )
)
def test_a_row_is_its_direction_times_its_norm(features):
    for row, unit in zip(features, normalise(features), strict=True):
        if not row.any():
            assert isinstance(unit, Rejected)
            continue
        assert isinstance(unit, Unit)
        assert unit.embedding.dtype == np.float32
        assert np.linalg.norm(unit.embedding.astype(np.float64)) == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose(unit.embedding.astype(np.float64) * unit.norm, row, rtol=1e-5, atol=1e-6 * unit.norm)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0])
def test_a_row_without_a_direction_is_rejected_and_leaves_the_others_alone(value):
    features = np.full((3, 4), 2, np.float32)
    features[1] = value
    first, second, third = normalise(features)
    assert isinstance(second, Rejected)
    assert second.reason is Reason.NOT_FINITE
    assert second.detail.startswith("the embedding's norm is ")
    for unit in (first, third):
        assert isinstance(unit, Unit)
        assert unit.norm == 4.0
        np.testing.assert_array_equal(unit.embedding, np.float32(0.5))


def test_of_nothing_comes_nothing():
    assert normalise(np.zeros((0, 4), np.float32)) == []
