"""Embeddings as int8: what candidates are ranked with again, and what exact search under a filter reads.

Each row has its own scale, its greatest component over 127, so that rows can be written as they stream by. On CNN-like
features an inner product is then off by about 0.0005. A quarter of float32's size.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Int8 = npt.NDArray[np.int8]

_CHUNK_ROWS = 512


def quantise(vectors: Float32) -> tuple[Int8, Float32]:
    """float32[n, D] as int8[n, D] codes and float32[n] scales; codes x scales is within half a scale of the vectors."""
    scales = np.abs(vectors).max(axis=1) / np.float32(127)
    scales[scales == 0] = 1
    return np.rint(vectors / scales[:, None]).astype(np.int8), scales


def dequantise(codes: Int8, scales: Float32) -> Float32:
    """float32[n, D] of unit L2 norm."""
    vectors = codes * scales[:, None]
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, np.float32(1e-12)), np.float32)


def score(codes: Int8, scales: Float32, rows: npt.NDArray[np.integer], query: Float32) -> Float32:
    """Inner products of a query with some rows.

    Args:
        codes: int8[n, D], memory-mapped or not.
        scales: float32[n].
        rows: int[m], row numbers.
        query: float32[D].

    Returns:
        float32[m].
    """
    if len(rows) <= _CHUNK_ROWS:
        return np.asarray((codes[rows].astype(np.float32) @ query) * scales[rows], np.float32)
    chunks = [score(codes, scales, rows[i : i + _CHUNK_ROWS], query) for i in range(0, len(rows), _CHUNK_ROWS)]
    return np.concatenate(chunks)
