from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index_builder.search import neighbours
from index_builder.search.engine import ExactEngine
from index_builder.search.neighbours import Query, answer, query_of_image, query_of_item, similar_items
from index_builder.search.rows import Rows, row_table
from index_builder.search.searcher import Searcher
from store.errors import UserError
from tests.index_builder.conftest import Indexed
from tests.support.versions import version_manifest

DIMENSION = 6


def searcher_of(items: list[int], seed: int) -> tuple[Searcher, np.ndarray]:
    """An exact index with a picture of item-N for each N given, `odd` an attribute, and its float64 vectors."""
    vectors = np.random.default_rng(seed).normal(size=(len(items), DIMENSION))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = pa.table(
        {
            "image_id": [f"image-{row}" for row in range(len(items))],
            "item_id": [f"item-{item}" for item in items],
            "image_uri": [f"{row}.jpg" for row in range(len(items))],
            "attributes": pa.array(
                [[("odd", str(row % 2))] for row in range(len(items))], pa.map_(pa.string(), pa.string())
            ),
        }
    )
    manifest = dataclasses.replace(
        version_manifest(1, 1, 1.0), encoder={"embedding_dim": DIMENSION}, vectors=len(items)
    )
    return Searcher(manifest, ExactEngine(vectors.astype(np.float32)), Rows([row_table(rows)])), vectors


CATALOGS = st.lists(st.integers(0, 6), min_size=1, max_size=40)
WHERE = st.sampled_from([None, {}, {"odd": "1"}])


@given(CATALOGS, st.integers(1, 9), WHERE, st.integers(0, 99), st.data())
def test_similar_items_are_those_whose_best_picture_is_nearest_to_any_own(items, k, where, seed, data):
    searcher, vectors = searcher_of(items, seed)
    own = data.draw(st.sampled_from(items))
    best: dict[int, float] = {}
    for row, item in enumerate(items):
        if item != own and (not where or row % 2 == 1):
            nearest = max(float(vectors[row] @ vectors[mine]) for mine in range(len(items)) if items[mine] == own)
            best[item] = max(nearest, best.get(item, -2.0))
    expected = sorted(best.items(), key=lambda pair: -pair[1])[:k]
    hits = similar_items(searcher, f"item-{own}", k, where)
    assert [hit.item_id for hit in hits] == [f"item-{item}" for item, _ in expected]
    np.testing.assert_allclose([hit.score for hit in hits], [score for _, score in expected], atol=1e-5)
    for hit in hits:
        assert hit.item_id == f"item-{items[hit.row]}"
        mine = [row for row, item in enumerate(items) if item == own]
        assert hit.score == pytest.approx((vectors[mine] @ vectors[hit.row]).max(), abs=1e-5)


@given(CATALOGS, st.integers(1, 9), WHERE, st.sampled_from([None, "item"]), st.integers(0, 99), st.data())
def test_answers_are_the_nearest_rows_that_are_not_the_querys_own(items, k, where, group_by, seed, data):
    searcher, vectors = searcher_of(items, seed)
    row = data.draw(st.integers(0, len(items) - 1))
    siblings = {other for other, item in enumerate(items) if item == items[row]}
    queries = [
        query_of_image(searcher, f"image-{row}", group_by),
        query_of_item(searcher, f"item-{items[row]}"),
        Query(7 * vectors[row].astype(np.float32)),
    ]
    assert [query.own for query in queries] == [siblings if group_by else {row}, siblings, frozenset()]
    np.testing.assert_allclose(queries[1].vector, vectors[sorted(siblings)].mean(axis=0), atol=1e-6)
    for query, hits in zip(queries, answer(searcher, queries, k, where, group_by), strict=True):
        scores = vectors @ (query.vector / np.linalg.norm(query.vector))
        order = [r for r in np.argsort(-scores).tolist() if r not in query.own and (not where or r % 2 == 1)]
        if group_by:
            order = list({items[r]: r for r in reversed(order)}.values())
            order.sort(key=lambda r: -scores[r])
        assert [hit.row for hit in hits] == order[:k]
        np.testing.assert_allclose([hit.score for hit in hits], scores[order[:k]], atol=1e-5)


def test_of_many_pictures_some_spread_evenly_are_searched_for(monkeypatch):
    monkeypatch.setattr(neighbours, "_MOST_PICTURES", 3)
    searcher, vectors = searcher_of([0] * 9 + list(range(1, 30)), seed=3)
    chosen = vectors[[0, 4, 8]] @ vectors[9:].T
    hits = similar_items(searcher, "item-0", 5, None)
    assert [hit.row for hit in hits] == (9 + np.argsort(-chosen.max(axis=0))[:5]).tolist()


def test_of_many_pictures_fewer_are_searched_for_where_many_answers_are_wanted(monkeypatch):
    monkeypatch.setattr(neighbours, "_MOST_NEIGHBOURS", 10)
    searcher, vectors = searcher_of([0] * 9 + list(range(1, 30)), seed=3)
    for k, own in ((3, [0, 4, 8]), (5, [0, 8]), (20, [0])):
        chosen = vectors[own] @ vectors[9:].T
        hits = similar_items(searcher, "item-0", k, None)
        assert [hit.row for hit in hits] == (9 + np.argsort(-chosen.max(axis=0))[:k]).tolist()


def test_of_an_item_with_many_pictures_one_more_item_is_looked_for(monkeypatch):
    searcher, _ = searcher_of([0] * 30 + list(range(1, 9)), seed=3)
    wanted: list[int] = []
    search = Searcher.search

    def note(self: Searcher, queries: Any, k: int, *rest: Any) -> Any:
        wanted.append(k)
        return search(self, queries, k, *rest)

    monkeypatch.setattr(Searcher, "search", note)
    assert len(answer(searcher, [query_of_item(searcher, "item-0")], 3, None, "item")[0]) == 3
    assert len(answer(searcher, [query_of_item(searcher, "item-0")], 3, None, None)[0]) == 3
    assert wanted == [4, 33]


def test_unknown_ids_and_counts_are_refused(exact: Indexed):
    searcher = exact.open()
    with pytest.raises(UserError, match="no item 'none' in index"):
        query_of_item(searcher, "none")
    with pytest.raises(UserError, match="no item 'none' in index"):
        similar_items(searcher, "none", 3, None)
    with pytest.raises(UserError, match="no picture 'none' in index"):
        query_of_image(searcher, "none")
    with pytest.raises(ValueError, match="k: expected a whole number from 1, found 0"):
        similar_items(searcher, searcher.rows.item_id(0), 0, None)


def test_in_a_tree_similar_items_are_no_worse_than_recall_allows(sharded: Indexed):
    searcher = sharded.open()
    item = searcher.rows.item_id(100)
    own = searcher.find_item(item)
    hits = similar_items(searcher, item, 10, None)
    scores = (sharded.vectors[own] @ sharded.vectors.T).max(axis=0)
    assert item not in {hit.item_id for hit in hits}
    assert len({hit.item_id for hit in hits}) == 10
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    np.testing.assert_allclose([hit.score for hit in hits], scores[[hit.row for hit in hits]], atol=3e-3)
