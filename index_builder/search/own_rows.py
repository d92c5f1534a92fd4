"""A query that is a row of the index is no answer to itself: what is found is looked through without it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]


def shown_columns(hidden: npt.NDArray[np.bool_], k: int) -> Int64:
    """int64[q, min(k, n)]: for each query the columns of its first `k` answers that are not hidden, in their order.

    Args:
        hidden: bool[q, n], of each answer of each query. Where too few are shown, hidden ones come last.
        k: Answers to keep.
    """
    return np.argsort(hidden, axis=1, kind="stable")[:, :k]


def without_own(found: Int64, own: Int64, k: int) -> Int64:
    """int64[q, k] of int64[q, k + 1] answers: each query's own row (int64[q]) is left out, or else the last."""
    return np.take_along_axis(found, shown_columns(found == own[:, None], k), 1)
