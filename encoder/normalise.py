"""Raw features to embeddings of unit length: the one place where a model's output is normalised."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from store.rejects import Reason, Rejected


@dataclasses.dataclass(frozen=True, slots=True)
class Unit:
    """One normalised embedding.

    Attributes:
        embedding: float32[D] of unit L2 norm.
        norm: L2 norm of the features, so that embedding x norm is the model's own output.
    """

    embedding: npt.NDArray[np.float32]
    norm: float


def normalise(features: npt.NDArray[np.float32]) -> list[Unit | Rejected]:
    """Scales each row to unit L2 norm; a row without a direction is rejected and does not disturb the others.

    Args:
        features: float32[n, D], as an `Encoder` gives them.

    Returns:
        n results in order: a `Unit`, or a `Rejected` (NOT_FINITE) where a value is not finite or the norm is about 0.
    """
    norms = np.linalg.norm(features.astype(np.float64), axis=1)
    results: list[Unit | Rejected] = []
    for vector, norm in zip(features, norms, strict=True):
        if not np.isfinite(norm) or norm < np.finfo(np.float32).tiny:
            results.append(Rejected(Reason.NOT_FINITE, f"the embedding's norm is {norm}"))
        else:
            results.append(Unit((vector / norm).astype(np.float32), float(norm)))
    return results
