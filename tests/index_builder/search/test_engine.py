"""The engine over trees that are brute force, so that what it asks of them is seen and what it finds can be exact."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index_builder.search import engine
from index_builder.search.engine import Settings, TreeEngine, TreeShard
from index_builder.search.int8_codes import quantise
from index_builder.search.tree import Tree
from tests.support.unit_vectors import DIMENSION, unit_vectors

SETTINGS = Settings(leaves_to_search=3, first_candidates=40, candidates=20, k=5)


class FakeTree:
    """Finds by exact inner product, refuses what would end the process under ScaNN, and notes what it was asked.

    Args:
        projected: float32[n, d].
        blind: Rows it never finds, as a search of few leaves does not.
    """

    def __init__(self, projected: np.ndarray, blind: tuple[int, ...] = ()) -> None:
        self.rows = len(projected)
        self.asked: list[tuple[int, int, int]] = []
        self._projected = projected
        self._seen = np.setdiff1d(np.arange(self.rows), blind)

    def search(self, query: np.ndarray, count: int, first: int, leaves: int) -> tuple[np.ndarray, np.ndarray]:
        assert 1 <= count <= first <= self.rows, f"ScaNN would end the process on {count} of {first} of {self.rows}"
        self.asked.append((count, first, leaves))
        scores = self._projected[self._seen] @ query
        order = np.argsort(-scores, kind="stable")[:count]
        return self._seen[order].astype(np.uint32), scores[order]

    def search_batch(self, queries: np.ndarray, count: int, first: int, leaves: int) -> tuple[np.ndarray, np.ndarray]:
        rows = np.zeros((len(queries), count), np.uint32)
        scores = np.full((len(queries), count), np.nan, np.float32)
        for number, query in enumerate(queries):
            found, of_found = self.search(query, count, first, leaves)
            rows[number, : len(found)], scores[number, : len(found)] = found, of_found
        return rows, scores


@dataclasses.dataclass(frozen=True)
class Made:
    engine: TreeEngine
    trees: list[FakeTree]
    vectors: np.ndarray


def make(sizes: list[int], settings: Settings = SETTINGS, blind: tuple[int, ...] = (), leaves: int = 7) -> Made:
    """An engine of shards of these sizes over an identity projection."""
    vectors = unit_vectors(sum(sizes), seed=sum(sizes))
    shards, trees, start = [], [], 0
    for size in sizes:
        of_shard = vectors[start : start + size]
        trees.append(FakeTree(of_shard, blind))
        shards.append(TreeShard(trees[-1], leaves, *quantise(of_shard)))  # type: ignore[arg-type]
        start += size
    return Made(TreeEngine(shards, np.eye(DIMENSION, dtype=np.float32), settings), trees, vectors)


def best_of(vectors: np.ndarray, query: np.ndarray, count: int, mask: np.ndarray | None = None) -> np.ndarray:
    """The true cosines of the best, falling."""
    scores = vectors @ query
    return np.sort(scores if mask is None else scores[mask])[::-1][:count]


def check(
    made: Made, queries: np.ndarray, found: tuple[np.ndarray, np.ndarray], mask: np.ndarray | None = None
) -> None:
    """Rows and cosines are those of brute force, apart from what int8 codes leave open; the rest is padded."""
    rows, scores = found
    assert (rows.dtype, scores.dtype) == (np.int64, np.float32)
    assert np.array_equal(rows < 0, np.isnan(scores))
    for query, of_one, cosines in zip(queries, rows, scores, strict=True):
        there = of_one >= 0
        expected = best_of(made.vectors, query, len(of_one), mask)
        assert there.sum() == len(expected)
        assert not there[len(expected) :].any()
        assert len(set(of_one[there].tolist())) == len(expected)
        np.testing.assert_allclose(cosines[there], made.vectors[of_one[there]] @ query, atol=0.01)
        np.testing.assert_allclose(cosines[there], expected, atol=0.01)
        assert mask is None or mask[of_one[there]].all()
        assert (cosines[there] <= 1).all()


@pytest.mark.parametrize("sizes", [[150], [60, 1, 89], [50, 50, 50]])
@pytest.mark.parametrize("queries", [1, 3, engine._BATCH_QUERIES + 2])
def test_the_nearest_of_all_shards_are_found(sizes: list[int], queries: int) -> None:
    made = make(sizes)
    asked = unit_vectors(queries, seed=9)
    check(made, asked, made.engine.nearest(asked, 5))
    own = made.engine.nearest(made.vectors[:queries], 1)
    assert own[0][:, 0].tolist() == list(range(min(queries, 150)))


@pytest.mark.parametrize("queries", [1, 2])
def test_no_cosine_is_over_one(queries: int) -> None:
    made = make([30])
    rows, scores = made.engine.nearest(made.vectors[:queries] * np.float32(1.1), 3)
    assert rows[:, 0].tolist() == list(range(queries))
    assert scores[:, 0].tolist() == [1.0] * queries


@pytest.mark.parametrize("queries", [1, 2])
def test_what_the_leaves_do_not_hold_is_padded(queries: int) -> None:
    made = make([30], blind=tuple(range(3, 30)))
    rows, scores = made.engine.nearest(unit_vectors(queries, seed=9), 5)
    assert sorted(rows[0].tolist()) == [-1, -1, 0, 1, 2]
    assert rows[0, 3:].tolist() == [-1, -1]
    assert np.array_equal(rows < 0, np.isnan(scores))


def test_no_tree_is_asked_for_more_than_it_has_nor_for_fewer_candidates_than_answers() -> None:
    made = make([4, 100], Settings(leaves_to_search=9, first_candidates=2, candidates=12, k=5))
    made.engine.nearest(unit_vectors(1, seed=9), 5)
    assert [tree.asked for tree in made.trees] == [[(4, 4, 7)], [(12, 12, 7)]]
    made = make([4, 100])
    made.engine.nearest(unit_vectors(2, seed=9), 5)
    assert [tree.asked for tree in made.trees] == [[(4, 4, 3)] * 2, [(20, 40, 3)] * 2]


def test_more_answers_than_the_settings_were_chosen_for_cost_more() -> None:
    assert SETTINGS.for_count(5) is SETTINGS
    assert SETTINGS.for_count(4) is SETTINGS
    assert SETTINGS.for_count(20) == Settings(6, 160, 80, 20)
    assert SETTINGS.for_count(6) == Settings(4, 48, 24, 6)  # rounded up
    made = make([150])
    check(made, made.vectors[:1], made.engine.nearest(made.vectors[:1], 20))
    assert made.trees[0].asked == [(80, 150, 6)]


def test_the_same_trees_searched_otherwise() -> None:
    made = make([150])
    other = made.engine.with_settings(Settings(1, 30, 10, 5))
    assert (other.settings.candidates, made.engine.settings) == (10, SETTINGS)
    check(made, made.vectors[:1], other.nearest(made.vectors[:1], 5))
    assert made.trees[0].asked == [(10, 30, 1)]


@pytest.mark.parametrize("sizes", [[150], [50, 100]])
@pytest.mark.parametrize("queries", [1, 2])
def test_candidates_are_as_many_as_asked_for_over_all_shards(sizes: list[int], queries: int) -> None:
    made = make(sizes)
    for rows, scores in made.engine.candidates(made.vectors[:queries], SETTINGS):
        assert len(rows) == len(scores) == 20
        assert (np.diff(scores) <= 0).all()
    rows, scores = made.engine.candidates(made.vectors[:queries], SETTINGS)[0]
    np.testing.assert_allclose(scores, best_of(made.vectors, made.vectors[0], 20), atol=1e-6)
    np.testing.assert_allclose(made.vectors[rows] @ made.vectors[0], scores, atol=1e-6)


@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=3),
    share=st.floats(0, 1),
    count=st.integers(1, 30),
    near=st.booleans(),
    queries=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_a_filter_gives_the_true_best_however_tight(
    sizes: list[int], share: float, count: int, near: bool, queries: int, seed: int
) -> None:
    """With _FEW_ROWS at 0 every filter that can be asks the tree first; `near` turns away just what is near."""
    made = make(sizes)
    asked = unit_vectors(queries, seed)
    order = np.argsort(-(made.vectors @ asked[0]))
    rows = len(made.vectors)
    mask = np.zeros(rows, bool)
    mask[(order[::-1] if near else order)[: round(share * rows)]] = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "_FEW_ROWS", 0)
        check(made, asked, made.engine.nearest_where(asked, count, mask), mask)


def far_half(made: Made, query: np.ndarray) -> np.ndarray:
    mask = np.zeros(len(made.vectors), bool)
    mask[np.argsort(made.vectors @ query)[: len(mask) // 2]] = True
    return mask


def test_a_filter_that_turns_away_what_is_near_is_answered_by_looking_at_every_row(monkeypatch) -> None:
    """Each of two queries: one whose neighbours pass is answered from the tree, one whose do not, by all that pass."""
    monkeypatch.setattr(engine, "_FEW_ROWS", 10)
    made = make([400], Settings(3, 40, 20, 5))
    far = made.vectors[:1]
    near = -far
    mask = far_half(made, far[0])
    both = np.concatenate([far, near])
    check(made, both, made.engine.nearest_where(both, 5, mask), mask)
    scored: list[int] = []
    plain = made.engine.score

    def score(rows: np.ndarray, query: np.ndarray) -> np.ndarray:
        scored.append(len(rows))
        return plain(rows, query)

    monkeypatch.setattr(made.engine, "score", score)
    made.engine.nearest_where(both, 5, mask)
    assert scored == [200, 20], "every row that passes; then only as many as an unfiltered search would rank again"


def test_a_tight_filter_does_not_ask_the_tree_and_a_loose_one_does(monkeypatch) -> None:
    made = make([400], Settings(3, 36, 20, 5))
    query = made.vectors[:1]
    mask = ~far_half(made, query[0])
    check(made, query, made.engine.nearest_where(query, 5, mask), mask)
    assert made.trees[0].asked == [], "200 rows are few"
    monkeypatch.setattr(engine, "_FEW_ROWS", 200)
    made.engine.nearest_where(query, 5, mask)
    assert made.trees[0].asked == []
    monkeypatch.setattr(engine, "_FEW_ROWS", 199)
    check(made, query, made.engine.nearest_where(query, 5, mask), mask)
    asked = 2 * (36 + 3 * 6)  # half of the rows pass: so that 36 do, but for three standard deviations
    assert made.trees[0].asked == [(asked, asked, 7)], "every leaf"
    monkeypatch.setattr(engine, "_DEVIATIONS", 11)
    made.engine.nearest_where(query, 5, mask)
    assert len(made.trees[0].asked) == 1, "as many candidates as rows that pass are no saving"


def test_a_filter_that_nothing_passes_has_no_answers() -> None:
    made = make([30])
    rows, scores = made.engine.nearest_where(made.vectors[:2], 4, np.zeros(30, bool))
    assert (rows == -1).all()
    assert np.isnan(scores).all()


@pytest.mark.parametrize("sizes", [[600], [590, 10], [5, 5, 590]])
def test_scores_and_vectors_are_those_of_the_row_in_whatever_shard(sizes: list[int]) -> None:
    made = make(sizes)
    rows = np.random.default_rng(3).permutation(600)
    query = unit_vectors(1, seed=4)[0]
    np.testing.assert_allclose(made.engine.score(rows, query), made.vectors[rows] @ query, atol=0.01)
    restored = made.engine.vectors(rows)
    assert restored.shape == (600, DIMENSION)
    assert restored.dtype == np.float32
    np.testing.assert_allclose(restored, made.vectors[rows], atol=0.01)
    one = np.flatnonzero(rows == 0)  # alone: shards without a row of it are passed over
    np.testing.assert_allclose(made.engine.score(rows[one], query), made.vectors[:1] @ query, atol=0.01)


@pytest.mark.parametrize(
    ("codes", "scales"),
    [(np.zeros((5, 4), np.int16), np.zeros((5, 2))), (np.zeros((5, 4), np.int8), np.zeros((4, 2)))],
)
def test_codes_that_do_not_fit_their_scales_are_refused(tmp_path, codes: Any, scales: Any) -> None:
    np.save(tmp_path / engine.CODES_FILE, codes)
    np.save(tmp_path / engine.SCALES_FILE, scales)
    with pytest.raises(ValueError, match="expected int8 codes and two numbers for each row"):
        TreeShard.open(tmp_path, 3)


def test_a_shard_is_opened_from_its_folder(tmp_path, monkeypatch) -> None:
    codes, scales = quantise(unit_vectors(9, seed=1))
    np.save(tmp_path / engine.CODES_FILE, codes)
    np.save(tmp_path / engine.SCALES_FILE, scales)
    tree = tmp_path / engine.TREE_FOLDER
    monkeypatch.setattr(Tree, "load", lambda folder, rows: FakeTree(np.zeros((rows, 2))) if folder == tree else None)
    shard = TreeShard.open(tmp_path, 3)
    assert (shard.tree.rows, shard.leaves) == (9, 3)
    np.testing.assert_array_equal(shard.codes, codes)
    np.testing.assert_array_equal(shard.scales, scales)
    assert isinstance(shard.codes.base, np.memmap), "codes stay on disk"
