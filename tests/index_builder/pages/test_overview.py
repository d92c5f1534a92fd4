from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from index_builder.pages.overview import NEAREST, map_of_sample, near_duplicates
from index_builder.search.engine import ExactEngine
from index_builder.search.rows import Rows, row_table
from index_builder.search.searcher import Searcher
from store.index import IndexManifest
from store.measured import ExactConfig, Recall
from tests.support.versions import LATENCY


def searcher_over(vectors: npt.NDArray[Any], attributes: list[dict[str, str]] | None = None) -> Searcher:
    """A searcher that compares with every vector, of any length but 0."""
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    names = [str(number) for number in range(len(vectors))]
    rows = pa.table(
        {
            "image_id": names,
            "item_id": names,
            "image_uri": [f"{name}.jpg" for name in names],
            "attributes": pa.array(
                [list(one.items()) for one in attributes or [{}] * len(vectors)], pa.map_(pa.string(), pa.string())
            ),
        }
    )
    manifest = IndexManifest(
        version="v",
        created_at="",
        snapshot="",
        encoder={"embedding_dim": vectors.shape[1]},
        vectors=len(vectors),
        shards=(),
        config=ExactConfig(),
        recall=Recall(10, 0.95, 1.0),
        latency=LATENCY,
        memory_bytes=0,
        files=(),
        timing={},
        versions={},
    )
    return Searcher(manifest, ExactEngine(vectors), Rows([row_table(rows)]))


def noisy_copies(groups: int, copies: int, dimension: int = 32) -> npt.NDArray[np.float32]:
    """Rows in groups of near duplicates; cosine of about 0.998 within a group, far less between."""
    rng = np.random.default_rng(3)
    originals = np.repeat(rng.normal(size=(groups, dimension)), copies, axis=0)
    return (originals + 0.04 * rng.normal(size=originals.shape)).astype(np.float32)


@pytest.mark.parametrize("copies", [1, 2, 4])
def test_near_duplicates_are_those_of_brute_force_each_pair_once(copies: int) -> None:
    vectors = noisy_copies(groups=300 // copies, copies=copies)
    searcher = searcher_over(vectors)
    found = near_duplicates(searcher, np.arange(len(vectors)), threshold=0.98, limit=10_000)
    cosines = searcher.vectors(np.arange(len(vectors)))
    cosines = cosines @ cosines.T
    wanted = {pair for pair in itertools.combinations(range(len(vectors)), 2) if cosines[pair] >= 0.98}
    assert len(wanted) == (300 // copies) * copies * (copies - 1) // 2
    assert {(pair.first.row, pair.second.row) for pair in found} == wanted
    assert len(found) == len(wanted)
    scores = [pair.score for pair in found]
    assert scores == sorted(scores, reverse=True)
    assert scores == pytest.approx([cosines[pair.first.row, pair.second.row] for pair in found], abs=1e-5)


def test_near_duplicates_of_a_sample_may_lie_outside_it_and_are_limited() -> None:
    searcher = searcher_over(noisy_copies(groups=20, copies=2))
    found = near_duplicates(searcher, [1, 6])
    assert {(pair.first.row, pair.second.row) for pair in found} == {(0, 1), (6, 7)}
    assert len(near_duplicates(searcher, np.arange(40), limit=3)) == 3


def test_many_copies_of_one_picture_are_found_without_the_picture_itself() -> None:
    searcher = searcher_over(np.ones((NEAREST * 3, 8), np.float32))
    found = near_duplicates(searcher, np.arange(NEAREST * 3), limit=1_000)
    assert len(found) >= NEAREST
    assert all(pair.first.row < pair.second.row for pair in found)


def test_a_single_picture_has_no_duplicates_and_a_place() -> None:
    searcher = searcher_over(np.ones((1, 8), np.float32))
    assert near_duplicates(searcher, [0]) == []
    (point,) = map_of_sample(searcher)
    assert (point.x, point.y, point.image_id, point.label) == (0, 0, "0", "")


@pytest.mark.parametrize(("rows", "dimension"), [(60, 5), (12, 40)])
def test_the_map_is_the_two_principal_components(rows: int, dimension: int) -> None:
    spread = np.linspace(3, 0.1, dimension)
    searcher = searcher_over(np.random.default_rng(0).normal(size=(rows, dimension)) * spread + 2)
    places = np.array([(point.x, point.y) for point in map_of_sample(searcher)])
    vectors = searcher.vectors(np.arange(rows))
    left, sizes, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    wanted = left[:, :2] * sizes[:2]
    signs = np.sign((places * wanted).sum(axis=0))
    np.testing.assert_allclose(places, wanted * signs, atol=1e-4)


def test_the_map_shows_a_sample_that_follows_the_seed() -> None:
    searcher = searcher_over(np.random.default_rng(0).normal(size=(50, 4)))
    found = map_of_sample(searcher, sample=20)
    assert len({point.image_id for point in found}) == 20
    assert found == map_of_sample(searcher, sample=20)
    assert found != map_of_sample(searcher, sample=20, seed=1)


@pytest.mark.parametrize(
    ("attributes", "labels"),
    [
        ([{"category": "a", "b": "x"}, {"category": "a", "b": "y"}, {"b": "x"}], ["a", "a", ""]),
        ([{"id": "1", "b": "x", "c": "z"}, {"id": "2", "b": "y", "c": "z"}, {"id": "3", "b": "x"}], ["x", "y", "x"]),
        ([{"c": "z"}, {"c": "z"}, {}], ["", "", ""]),
    ],
)
def test_the_map_is_coloured_by_category_or_what_has_few_values(
    attributes: list[dict[str, str]], labels: list[str]
) -> None:
    searcher = searcher_over(np.eye(3, 4, dtype=np.float32), attributes)
    assert [point.label for point in map_of_sample(searcher)] == labels
