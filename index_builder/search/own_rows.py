"""Keeping a row out of its own answer: what is looked for is the nearest thing to itself."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

OwnRows = Int64 | Sequence[Collection[int]]
"""For each of q queries its own row, as int64[q] with -1 where it has none; or all its own rows."""


def others_first(rows: Int64, own: OwnRows, k: int) -> tuple[Int64, Mask]:
    """Where in its answer the first `k` rows are that are not a query's own.

    Args:
        rows: int64[q, m] answers, the best first; -1 where there are fewer than m.
        own: What to leave out.
        k: Rows wanted; to have so many, m must be k and the number of own rows.

    Returns:
        int64[q, min(k, m)] columns of `rows`, in their order, and bool of the same shape: False where nothing is left.
    """
    hidden = rows < 0
    if isinstance(own, np.ndarray):
        hidden |= rows == own[:, None]
    else:
        for number, of_one in enumerate(own):
            if of_one:
                hidden[number] |= np.isin(rows[number], list(of_one))
    places = np.argsort(hidden, axis=1, kind="stable")[:, :k]
    return places, ~np.take_along_axis(hidden, places, 1)


def without_own(rows: Int64, own: OwnRows, k: int) -> Int64:
    """int64[q, min(k, m)] of int64[q, m] answers: the first `k` that are not a query's own, -1 where none is left."""
    places, there = others_first(rows, own, k)
    return np.where(there, np.take_along_axis(rows, places, 1), -1)
