"""The linear map from embeddings to the few dimensions that the first stage searches.

Principal components of uncentred rows (the inner product is what is to be kept, not the variance), each scaled by what
it is worth. A plain truncation treats what it drops as unrelated; among near neighbours it is not, and the components
that remain can stand in for it. So the scale is fitted: least squares of the true inner products between a row and its
near neighbours on the products of their components. On vectors with the spectrum of CNN features (128 of 2,048
dimensions) the true ten neighbours are among the first 50 candidates in 97.6% of cases instead of 94.3%, and search
costs nothing more.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]

_ANCHORS = 400
_NEIGHBOURS = 200
_LEAST_WEIGHT = 0.1


@dataclasses.dataclass(frozen=True)
class Basis:
    """Principal components and what is needed to weigh the first d of them, for any d.

    Attributes:
        components: float32[D, d_max], orthonormal columns, the strongest first.
        gram: float64[d_max, d_max], products of component products over near pairs.
        moment: float64[d_max], component products times true inner products.
    """

    components: Float32
    gram: npt.NDArray[np.float64]
    moment: npt.NDArray[np.float64]

    def scale(self, dimension: int) -> Float32:
        """float32[dimension]: what each of the first components is multiplied by, for rows and queries alike.

        Inner products of rows projected with components[:, :dimension] x scale then stand for cosines.
        """
        gram = self.gram[:dimension, :dimension]
        ridge = 1e-6 * np.trace(gram) / dimension
        if ridge > 0:
            weights = np.linalg.solve(gram + ridge * np.eye(dimension), self.moment[:dimension])
        else:  # every neighbour is a duplicate: nothing to learn from
            weights = np.ones(dimension)
        return np.sqrt(np.maximum(weights, _LEAST_WEIGHT)).astype(np.float32)

    def projection(self, dimension: int) -> Float32:
        """float32[D, dimension]: the components and their scale in one matrix."""
        return np.ascontiguousarray(self.components[:, :dimension] * self.scale(dimension))


def fit_basis(sample: Float32, dimension: int, seed: int = 0) -> Basis:
    """Fits the components on a sample of rows.

    Args:
        sample: float32[n, D], L2-normalised.
        dimension: d_max, at most D.
        seed: Of the choice of anchor rows.
    """
    gram = (sample.T @ sample).astype(np.float64) / len(sample)
    # eigh rises; the strongest come last.
    components = np.linalg.eigh(gram)[1][:, ::-1][:, :dimension].astype(np.float32)
    projected = sample @ components
    anchors = np.random.default_rng(seed).choice(len(sample), min(_ANCHORS, len(sample)), replace=False)
    return Basis(np.ascontiguousarray(components), *_near_pairs(sample, projected, anchors))


def _near_pairs(
    sample: Float32, projected: Float32, anchors: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    dimension = projected.shape[1]
    gram, moment = np.zeros((dimension, dimension)), np.zeros(dimension)
    neighbours = min(_NEIGHBOURS, len(sample) - 1)
    for anchor in anchors if neighbours > 0 else ():
        scores = projected @ projected[anchor]
        scores[anchor] = -np.inf
        near = np.argpartition(-scores, neighbours - 1)[:neighbours]
        products = projected[near] * projected[anchor]
        true = sample[near] @ sample[anchor]
        # Only the order of one row's neighbours matters, so each row's mean is taken out.
        products = products - products.mean(axis=0)
        gram += products.T @ products
        moment += products.T @ (true - true.mean())
    return gram, moment
