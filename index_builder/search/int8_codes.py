"""Embeddings as int8: what candidates are ranked with again, and what exact search under a filter reads.

A row is codes x scale + offset, its own two numbers, so that rows can be written as they stream by. The offset is the
middle between its least and its greatest component: features after a ReLU are not negative, and half of the codes would
stand for nothing. On CNN-like features an inner product is then off by about 0.0002. A quarter of float32's size.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Int8 = npt.NDArray[np.int8]

_CHUNK_ROWS = 512


def quantise(vectors: Float32) -> tuple[Int8, Float32]:
    """float32[n, D] as int8[n, D] codes and float32[n, 2] scales and offsets; right to within half a scale."""
    least, greatest = vectors.min(axis=1), vectors.max(axis=1)
    scales = (greatest - least) / np.float32(254)
    scales[scales == 0] = 1
    offsets = (greatest + least) / 2
    codes = np.rint((vectors - offsets[:, None]) / scales[:, None]).astype(np.int8)
    return codes, np.stack([scales, offsets], axis=1)


def dequantise(codes: Int8, scales: Float32) -> Float32:
    """float32[n, D] of unit L2 norm."""
    vectors = codes * scales[:, :1] + scales[:, 1:]
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, np.float32(1e-12)), np.float32)


def score(codes: Int8, scales: Float32, rows: npt.NDArray[np.integer], query: Float32) -> Float32:
    """Inner products of a query with some rows.

    Args:
        codes: int8[n, D], memory-mapped or not.
        scales: float32[n, 2], scales and offsets.
        rows: int[m], row numbers.
        query: float32[D].

    Returns:
        float32[m].
    """
    if len(rows) <= _CHUNK_ROWS:
        of_rows = scales[rows]
        products = codes[rows].astype(np.float32) @ query
        return np.asarray(products * of_rows[:, 0] + of_rows[:, 1] * query.sum(), np.float32)
    chunks = [score(codes, scales, rows[i : i + _CHUNK_ROWS], query) for i in range(0, len(rows), _CHUNK_ROWS)]
    return np.concatenate(chunks)
