from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from index_builder.search.int8_codes import dequantise, quantise, score

VECTORS = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 40), st.just(16)), elements=st.floats(-1, 1, width=32, allow_subnormal=False)
)


@given(VECTORS)
def test_codes_are_within_half_a_scale(vectors: np.ndarray) -> None:
    codes, scales = quantise(vectors)
    assert codes.dtype == np.int8
    assert np.all(np.abs(codes * scales[:, :1] + scales[:, 1:] - vectors) <= scales[:, :1] * 0.501 + 1e-7)


@given(VECTORS, st.integers(0, 2**32 - 1))
def test_scores_are_inner_products_of_what_codes_stand_for(vectors: np.ndarray, seed: int) -> None:
    codes, scales = quantise(vectors)
    generator = np.random.default_rng(seed)
    query = generator.standard_normal(16).astype(np.float32)
    rows = generator.integers(0, len(vectors), 2000)  # more than one chunk
    expected = (codes * scales[:, :1] + scales[:, 1:])[rows] @ query
    np.testing.assert_allclose(score(codes, scales, rows, query), expected, atol=1e-4)


def test_restored_vectors_are_near_and_normalised() -> None:
    vectors = np.random.default_rng(0).random((100, 256), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    restored = dequantise(*quantise(vectors))
    np.testing.assert_allclose(np.linalg.norm(restored, axis=1), 1, atol=1e-5)
    assert (restored * vectors).sum(axis=1).min() > 0.9999
