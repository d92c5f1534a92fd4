from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index_builder.search.rows import Rows
from index_builder.search.searcher import Matches, Searcher
from store.errors import UserError
from store.location import Store
from tests.index_builder.conftest import DIMENSION, ROWS, Indexed


@pytest.fixture(scope="module")
def searcher(sharded: Indexed) -> Searcher:
    return sharded.open()


def brute_force(vectors: np.ndarray, query: np.ndarray, k: int, mask: np.ndarray) -> tuple[list[int], np.ndarray]:
    rows = np.flatnonzero(mask)
    scores = vectors[rows] @ (query / np.linalg.norm(query))
    best = np.argsort(-scores, kind="stable")[:k]
    return rows[best].tolist(), scores[best]


def recall_of(found: np.ndarray, truth: list[list[int]]) -> float:
    return sum(len(set(row.tolist()) & set(true)) for row, true in zip(found, truth, strict=True)) / sum(
        map(len, truth)
    )


def test_recall_over_all_shards_is_what_the_manifest_says(sharded: Indexed, searcher: Searcher) -> None:
    rows = np.random.default_rng(9).choice(ROWS, 500, replace=False)
    found = searcher.search(sharded.vectors[rows], 11).rows
    everything = np.ones(ROWS, bool)
    truth, answers = [], []
    for row, of_one in zip(rows, found, strict=True):
        everything[row] = False
        truth.append(brute_force(sharded.vectors, sharded.vectors[row], 10, everything)[0])
        everything[row] = True
        answers.append(of_one[of_one != row][:10])
    measured = recall_of(np.array(answers), truth)
    assert len(sharded.manifest.shards) == 3
    assert measured >= 0.94
    assert abs(measured - sharded.manifest.recall.measured) < 0.02


@pytest.mark.parametrize(("name", "k"), [("half", 10), ("twentieth", 10), ("thousandth", 10), ("thousandth", 3)])
def test_filtered_answers_are_the_best_of_what_matches(sharded: Indexed, searcher: Searcher, name: str, k: int) -> None:
    queries = sharded.vectors[::90]
    mask = searcher.rows.matching({name: "yes"})
    truth = [brute_force(sharded.vectors, query, k, mask)[0] for query in queries]
    found = searcher.search(queries, k, where={name: "yes"}).rows
    assert mask[found[found >= 0]].all()
    assert recall_of(found, truth) >= 0.95


def test_scores_are_cosines_best_first(sharded: Indexed, searcher: Searcher) -> None:
    matches = searcher.search(7 * sharded.vectors[:20], 5)
    assert matches.scores.dtype == np.float32
    assert (np.diff(matches.scores, axis=1) <= 0).all()
    true = np.einsum("qd,qkd->qk", sharded.vectors[:20], sharded.vectors[matches.rows])
    np.testing.assert_allclose(matches.scores, true, atol=3e-3)


def test_hits_carry_ids_and_attributes(searcher: Searcher, sharded: Indexed) -> None:
    matches = searcher.search(sharded.vectors[123], 3)
    hits = matches.hits()
    assert hits[0].image_id == "image-000000123"
    assert hits[0].image_uri == "synthetic/image-000000123.jpg"
    assert hits[0].attributes.keys() == {"category", "half", "twentieth", "thousandth"}
    assert [hit.image_id for hit in hits] == matches.image_ids()[0]
    assert [hit.item_id for hit in hits] == matches.item_ids()[0]


def test_one_picture_for_each_item(searcher: Searcher, sharded: Indexed) -> None:
    queries = sharded.vectors[5:8]
    items = searcher.search(queries, 12, group_by="item")
    plain = searcher.search(queries, 60)
    for number, of_one in enumerate(items.item_ids()):
        assert len(set(of_one)) == len(of_one) == 12
        assert of_one == list(dict.fromkeys(plain.item_ids()[number]))[:12]


def test_a_single_query_answers_as_a_batch(searcher: Searcher, sharded: Indexed) -> None:
    batch = searcher.search(sharded.vectors[:30], 10)
    for number in range(30):
        one = searcher.search(sharded.vectors[number], 10)
        np.testing.assert_array_equal(one.rows[0], batch.rows[number])


def test_more_answers_than_rows_are_padded(exact: Indexed, searcher: Searcher, sharded: Indexed) -> None:
    matches = exact.open().search(exact.vectors[0], 500)
    assert (matches.rows[0] >= 0).sum() == 300
    assert np.isnan(matches.scores[0, 300:]).all()
    assert len(matches.hits()) == 300
    everything = searcher.search(sharded.vectors[0], ROWS + 5).rows[0]
    assert sorted(everything[everything >= 0].tolist()) == list(range(ROWS))


def test_exact_search_finds_what_sorting_finds(exact: Indexed) -> None:
    searcher = exact.open()
    assert exact.manifest.config.kind == "exact"
    assert exact.manifest.recall.measured == 1
    mask = searcher.rows.matching({"half": "yes"})
    found = searcher.search(exact.vectors, 10, where={"half": "yes"})
    for number, query in enumerate(exact.vectors):
        assert found.rows[number].tolist() == brute_force(exact.vectors, query, 10, mask)[0]


def test_threads_get_the_answers_one_gets(searcher: Searcher, sharded: Indexed) -> None:
    queries = sharded.vectors[:200]
    alone = searcher.search(queries, 10).rows
    wrong: list[int] = []

    def search(start: int) -> None:
        for number in range(start, 200, 8):
            where = {"half": "yes"} if number % 3 == 0 else None
            found = searcher.search(queries[number], 10, where=where).rows[0]
            if where is None and found.tolist() != alone[number].tolist():
                wrong.append(number)

    threads = [threading.Thread(target=search, args=(start,)) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_rows_and_vectors_are_found_by_id(searcher: Searcher, sharded: Indexed) -> None:
    row = searcher.find_image("image-000004242")
    assert row == 4242
    np.testing.assert_allclose(searcher.vectors([row])[0], sharded.vectors[row], atol=0.01)
    item = searcher.rows.item_id(row)
    assert row in searcher.find_item(item)
    with pytest.raises(UserError, match="no picture 'nobody'"):
        searcher.find_image("nobody")
    with pytest.raises(UserError, match="no item 'nobody'"):
        searcher.find_item("nobody")


@pytest.mark.parametrize(
    ("queries", "k", "message"),
    [
        (np.ones((1, DIMENSION - 1)), 10, "expected float32"),
        (np.ones((1, 1, DIMENSION)), 10, "expected float32"),
        (np.full(DIMENSION, np.nan), 10, "finite"),
        (np.zeros(DIMENSION), 10, "not all zero"),
        (np.ones(DIMENSION), 0, "from 1, found 0"),
    ],
)
def test_queries_that_cannot_be_answered(searcher: Searcher, queries: np.ndarray, k: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        searcher.search(queries, k)


def test_no_queries_have_no_answers(searcher: Searcher) -> None:
    assert searcher.search(np.zeros((0, DIMENSION)), 10).rows.shape == (0, 10)
    assert searcher.search(np.zeros((0, DIMENSION)), 10, group_by="item").rows.shape == (0, 10)


def test_nothing_published_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no index is published.*shelfmark index"):
        Searcher.open(str(tmp_path))


def test_an_open_reader_outlives_its_version(sharded: Indexed, tmp_path: Path) -> None:
    shutil.copytree(sharded.store.uri, tmp_path / "store")
    searcher = Searcher.open(str(tmp_path / "store"))
    before = searcher.search(sharded.vectors[:50], 10, where={"half": "yes"})
    shutil.rmtree(tmp_path / "store")
    after = searcher.search(sharded.vectors[:50], 10, where={"half": "yes"})
    np.testing.assert_array_equal(before.rows, after.rows)
    assert after.hits(3)[0].attributes["half"] == "yes"
    np.testing.assert_array_equal(searcher.search(sharded.vectors[60:90], 10).rows[:, 0], np.arange(60, 90))


def test_importing_loads_neither_tensorflow_nor_beam() -> None:
    code = (
        "import sys, index_builder.build.builder, index_builder.search.searcher, index_builder.build.check;"
        "print(sorted({'tensorflow', 'scann', 'apache_beam'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
    assert done.stdout.strip() == "[]"


def test_a_store_by_its_file_uri(exact: Indexed) -> None:
    assert Searcher.open(Path(exact.store.uri).as_uri()).search(exact.vectors[0], 1).rows[0, 0] == 0
    assert Store(Path(exact.store.uri).as_uri()).local_path("x") is not None


@pytest.mark.parametrize("kind", ["exact", "sharded"])
def test_a_dropped_index_is_freed_at_once(request: pytest.FixtureRequest, kind: str) -> None:
    indexed: Indexed = request.getfixturevalue(kind)
    searcher = indexed.open()
    matches = searcher.search(indexed.vectors[:3], 5, where={"half": "yes"}, group_by="item")
    assert len(matches.all_hits()) == 3
    assert len(searcher.search(indexed.vectors[0], 5).hits()) == 5
    parts = [weakref.ref(part) for part in (searcher, searcher.rows, searcher._engine)]
    gc.collect()
    gc.disable()
    try:
        del searcher, matches
        assert [part() for part in parts] == [None, None, None]
    finally:
        gc.enable()


def test_all_hits_are_those_of_each_query(sharded: Indexed, searcher: Searcher) -> None:
    matches = searcher.search(sharded.vectors[:6], 20, where={"thousandth": "yes"})
    assert (matches.rows < 0).any()
    assert matches.all_hits() == [matches.hits(query) for query in range(6)]
    assert [len(hits) for hits in matches.all_hits()] == (matches.rows >= 0).sum(axis=1).tolist()
    for of_one, rows, scores in zip(matches.all_hits(), matches.rows, matches.scores, strict=True):
        assert [(hit.row, hit.score) for hit in of_one] == [
            (row, score) for row, score in zip(rows.tolist(), scores.tolist(), strict=True) if row >= 0
        ]


@given(
    st.lists(st.lists(st.integers(0, 30), unique=True, min_size=6, max_size=6), min_size=1, max_size=4),
    st.integers(1, 7),
    st.data(),
)
def test_own_rows_are_left_out_and_the_rest_keep_their_order(
    lists: list[list[int]], k: int, data: st.DataObject
) -> None:
    answers = [data.draw(st.integers(0, 6)) for _ in lists]
    rows = np.array([of_one[:n] + [-1] * (6 - n) for of_one, n in zip(lists, answers, strict=True)], np.int64)
    scores = np.where(rows < 0, np.nan, -rows).astype(np.float32)
    own = [frozenset(data.draw(st.lists(st.integers(0, 30), max_size=12))) for _ in lists]
    found = Matches(rows, scores, Rows([])).without(own, k)
    for of_one, n, mine, left, cosines in zip(lists, answers, own, found.rows, found.scores, strict=True):
        expected = [row for row in of_one[:n] if row not in mine][:k]
        assert left.tolist() == expected + [-1] * (min(k, 6) - len(expected))
        np.testing.assert_array_equal(cosines, np.where(left < 0, np.nan, -left).astype(np.float32))
