from __future__ import annotations

import numpy as np
import pytest

from benchmarks.vectors import SyntheticCatalog
from index_builder.build.projection import fit_basis


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    catalog = SyntheticCatalog.draw(4096, seed=3, dimensions=128)
    return catalog.chunk(0)


def test_all_components_keep_every_inner_product(vectors: np.ndarray) -> None:
    basis = fit_basis(vectors, 128)
    np.testing.assert_allclose(basis.components.T @ basis.components, np.eye(128), atol=1e-4)
    kept = vectors @ basis.components
    np.testing.assert_allclose(kept[:50] @ kept.T, vectors[:50] @ vectors.T, atol=1e-4)


def candidates_hit(scores: np.ndarray, truth: np.ndarray, count: int) -> float:
    near = np.argsort(-scores, axis=1)[:, :count]
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(near, truth, strict=True)]))


def test_the_fitted_scale_finds_more_of_the_true_neighbours(vectors: np.ndarray) -> None:
    fitted, queries = vectors[1000:], np.arange(1000)
    basis = fit_basis(fitted, 24)
    exact = vectors[queries] @ vectors.T
    exact[queries, queries] = -1
    truth = np.argsort(-exact, axis=1)[:, :10]
    found = []
    for projection in (basis.components[:, :16], basis.projection(16)):
        projected = vectors @ projection
        scores = projected[queries] @ projected.T
        scores[queries, queries] = -1
        found.append(candidates_hit(scores, truth, 30))
    assert found[1] > found[0]


def test_copies_of_one_vector_leave_the_components_as_they_are() -> None:
    basis = fit_basis(np.tile(np.eye(8, dtype=np.float32)[:1], (50, 1)), 4)
    assert np.isfinite(basis.projection(4)).all()


def test_one_row_is_enough() -> None:
    assert fit_basis(np.eye(8, dtype=np.float32)[:1], 4).projection(2).shape == (8, 2)
