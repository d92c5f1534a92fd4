"""`shelfmark evaluate`: what is counted, against brute force; and whole runs over drawn pictures."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index_builder.search.engine import ExactEngine
from index_builder.search.rows import Rows, row_table
from index_builder.search.searcher import Searcher
from pipelines.cli.main import run_command
from pipelines.evaluate import find_answers
from pipelines.labelled_queries import ITEM, LabelledQueries, labels_of, queries_from_index
from store.errors import StoreError, UserError
from store.index import IndexManifest
from store.measured import ExactConfig, Recall, ShardEntry
from store.snapshot import snapshot_folder
from tests.support.small_store import SmallStore, make_small_index
from tests.support.versions import LATENCY


def make_searcher(vectors: np.ndarray, labels: Sequence[str | None]) -> Searcher:
    """An index in memory; rows without a label have no attributes at all."""
    count = len(vectors)
    columns = {
        "image_id": [f"i{row}" for row in range(count)],
        "item_id": [f"item{row // 2}" for row in range(count)],
        "image_uri": [f"{row}.jpg" for row in range(count)],
        "attributes": pa.array(
            [[] if label is None else [("kind", label)] for label in labels], pa.map_(pa.string(), pa.string())
        ),
    }
    manifest = IndexManifest(
        "v", "", "s", {"embedding_dim": vectors.shape[1]}, count, (ShardEntry("shard-00000", count),),
        ExactConfig(), Recall(10, 0.95, 1.0), LATENCY, 0, (), {}, {},
    )  # fmt: skip
    return Searcher(manifest, ExactEngine(vectors), Rows([row_table(pa.table(columns))]))


def random_vectors(count: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, 5)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@settings(max_examples=40)
@given(
    labels=st.lists(st.sampled_from(["a", "b", "c", None]), min_size=2, max_size=30).filter(any),
    k=st.integers(1, 12),
    seed=st.integers(0, 9),
)
def test_answers_are_those_of_brute_force_without_the_query_itself(labels, k, seed):
    vectors = random_vectors(len(labels), seed)
    searcher = make_searcher(vectors, labels)
    queries = queries_from_index(searcher, labels, max_queries=100)
    answers = find_answers(searcher, queries, labels, k)
    assert queries.own_rows.tolist() == [row for row, label in enumerate(labels) if label is not None]
    for place, own in enumerate(queries.own_rows):
        others = [row for row in range(len(labels)) if row != own]
        best = sorted(others, key=lambda row: -float(vectors[row] @ vectors[own]))[:k]
        found = [int(row) for row in answers.rows[place] if row >= 0]
        assert found == best
        assert answers.labels(labels)[place] == [labels[row] for row in best]
        assert answers.relevant_rows[place] == sum(labels[row] == labels[own] for row in others)


def test_queries_from_outside_keep_every_answer_and_may_have_nothing_to_find():
    labels = ["a", "a", "b", None]
    vectors = random_vectors(4, 1)
    searcher = make_searcher(vectors, labels)
    hits = [searcher.rows.hit(0, 1.0)] * 2
    queries = LabelledQueries(vectors[[0, 3]], ["a", "unknown"], hits, searcher.rows, np.array([-1, -1]))
    answers = find_answers(searcher, queries, labels, k=5)
    assert answers.rows[:, 0].tolist() == [0, 3]
    assert answers.rows[:, 4].tolist() == [-1, -1]
    assert answers.relevant_rows.tolist() == [2, 0]
    assert answers.labels(labels)[0].count("a") == 2


def test_more_rows_than_wanted_are_sampled_the_same_way_every_time():
    labels = ["a"] * 50
    searcher = make_searcher(random_vectors(50, 2), labels)
    first, again = (queries_from_index(searcher, labels, max_queries=20).own_rows for _ in range(2))
    assert len(set(first.tolist())) == 20
    np.testing.assert_array_equal(first, again)


def test_views_of_one_item_can_be_the_label():
    rows = make_searcher(random_vectors(5, 3), [None] * 5).rows
    assert labels_of(rows, ITEM) == ["item0", "item0", "item1", "item1", "item2"]


def test_an_unknown_label_is_one_line_with_those_there_are():
    rows = make_searcher(random_vectors(2, 4), ["a", "b"]).rows
    with pytest.raises(UserError, match=r"kind.*'colour'"):
        labels_of(rows, "colour")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallStore:
    return make_small_index(tmp_path_factory.mktemp("small"), items=30, views=2)


def run(small: SmallStore, *arguments: object) -> int:
    return run_command(["evaluate", "--store", small.uri, *map(str, arguments)])


def catalog_rows(small: SmallStore) -> list[dict[str, Any]]:
    folder = Path(small.uri, snapshot_folder(small.manifest.snapshot))
    return [row for file in small.manifest.files for row in pq.read_table(folder / file.path).to_pylist()]


def write_queries(small: SmallStore, path: Path, columns: dict[str, list[str]], count: int) -> None:
    """A catalog of the index's first pictures, with other columns."""
    with small.catalog.open(newline="", encoding="utf-8") as file:
        uris = [str(small.catalog.parent / row["image_uri"]) for row in csv.DictReader(file)][:count]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image_uri", *columns])
        writer.writerows(zip(uris, *columns.values(), strict=True))


@pytest.mark.parametrize("label", ["category", ITEM])
def test_the_catalog_against_itself_agrees_with_brute_force(small, capsys, label):
    assert run(small, "--label", label, "-k", 4, "--format", "json") == 0
    document = json.loads(capsys.readouterr().out)
    rows = catalog_rows(small)
    labels = np.array([row["item_id"] if label == ITEM else dict(row["attributes"])["category"] for row in rows])
    vectors = np.array([row["embedding"] for row in rows])
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -2)
    top = np.argsort(-scores, axis=1)[:, :4]
    relevant = labels[top] == labels[:, None]
    possible = np.array([(labels == own).sum() - 1 for own in labels])
    counted = possible > 0
    assert document["queries"] == counted.sum()
    assert document["without_relevant"] == (~counted).sum()
    assert document["precision_at_1"]["value"] == pytest.approx(relevant[counted, 0].mean(), abs=1e-4)
    recall = (relevant.sum(axis=1)[counted] / np.minimum(4, possible[counted])).mean()
    assert document["recall_at_k"]["value"] == pytest.approx(recall, abs=1e-4)
    for name in ("precision_at_1", "recall_at_k", "map_at_k"):
        assert 0 <= document[name]["low"] <= document[name]["value"] <= document[name]["high"] <= 1
    assert set(document["per_label"]) == set(labels[counted])
    assert document["encoder"]["weights"] == "random:3"


def test_a_sample_is_taken_where_the_catalog_is_large(small, capsys):
    run(small, "--label", ITEM, "--max_queries", 12, "--format", "json")
    assert json.loads(capsys.readouterr().out)["queries"] == 12


def test_pictures_from_outside_are_embedded_as_the_catalog_was(small, tmp_path, capsys, caplog):
    rows = {row["image_uri"]: row for row in catalog_rows(small)}
    with small.catalog.open(newline="", encoding="utf-8") as file:
        first = [rows[row["image_uri"]] for row in csv.DictReader(file)][:11]
    kinds = [dict(row["attributes"])["category"] for row in first]
    write_queries(small, tmp_path / "queries.csv", {"category": [*kinds[:9], "", "unheard of"]}, 11)
    with (tmp_path / "queries.csv").open("a", encoding="utf-8") as file:
        file.write("gone.jpg,mug\n")
    before = sorted(Path(small.uri).rglob("*"))
    assert run(small, "--label", "category", "--queries", tmp_path / "queries.csv", "--format", "json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["queries"], document["without_relevant"]) == (9, 1)
    assert document["precision_at_1"]["value"] == 1.0, "each finds the very same picture in the index"
    assert "1 of 12 query rows were rejected (not_found 1)" in caplog.text
    assert "1 of 11 query pictures have no category" in caplog.text
    assert sorted(Path(small.uri).rglob("*")) == before, "the store is only read"


def test_the_text_has_intervals_and_a_row_to_each_label(small, capsys, caplog):
    assert run(small, "--label", "category", "-k", 3) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert [line.split("  ")[0] for line in lines[:4]] == ["index", "queries from", "label", "encoder"]
    assert lines[3].endswith("MobileNetV3Small, weights random:3")
    assert lines[5].split() == ["queries", "60"]
    for line, name in zip(lines[6:9], ("precision@1", "label-recall@3", "mAP@3"), strict=True):
        assert re.fullmatch(rf"{name} +[01]\.\d{{3}}  \([01]\.\d{{3}} to [01]\.\d{{3}}\)", line)
    assert lines[10].split() == ["label", "queries", "precision@1", "label-recall@3", "mAP@3"]
    assert {line.split()[0] for line in lines[11:]} <= {
        dict(row["attributes"])["category"] for row in catalog_rows(small)
    }
    assert "untrained" in caplog.text


def test_the_page_shows_confusions_as_pictures_and_opens_offline(small, tmp_path, capsys):
    page, write = tmp_path / "page.html", ["--label", "title", "--format", "json", "--html"]
    assert run(small, *write, page) == 0
    document = json.loads(capsys.readouterr().out)
    examples = sum(len(confusion["examples"]) for confusion in document["confusions"])
    assert examples > 0, "untrained weights get something wrong"
    text = page.read_text(encoding="utf-8")
    assert text.count('src="data:image/') == 2 * examples
    assert 'src="http' not in text
    assert "random:3" in text


def test_the_page_shows_queries_from_their_own_catalog(small, tmp_path, monkeypatch):
    with small.catalog.open(newline="", encoding="utf-8") as file:
        uri = next(csv.DictReader(file))["image_uri"]
    shutil.copy(small.catalog.parent / uri, tmp_path / f"query{Path(uri).suffix}")
    title = dict(catalog_rows(small)[-1]["attributes"])["title"]
    (tmp_path / "queries.csv").write_text(f'image_uri,title\nquery{Path(uri).suffix},"{title}"\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    run(small, "--label", "title", "--queries", "queries.csv", "--html", "page.html")
    assert Path("page.html").read_text(encoding="utf-8").count('src="data:image/') == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--label", "size"], "category, colour, pattern, title"),
        (["--label", "category", "--queries", "none.csv"], "no such file"),
        (["--label", "category", "--queries", "{queries}"], "queries.csv: expected an attribute of the catalog (kind)"),
        (["--label", "category", "--queries", "{broken}"], "none that could be embedded"),
        (["--label", "title", "--version", "20200101T000000Z-000000"], "20200101T000000Z-000000"),
        (["--queries", "{queries}"], "--label"),
    ],
)
def test_a_mistake_is_one_line(small, tmp_path, arguments, says):
    queries, broken = tmp_path / "queries.csv", tmp_path / "broken.csv"
    write_queries(small, queries, {"kind": ["mug"]}, 1)
    broken.write_text("image_uri,category\ngone.jpg,mug\n", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        run(small, *(text.format(queries=queries, broken=broken) for text in arguments))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_weights_are_one_line_before_anything_is_embedded(small, tmp_path):
    store = tmp_path / "store"
    shutil.copytree(small.uri, store)
    copied = SmallStore(small.catalog, str(store), small.manifest)
    copied.weights_file().unlink()
    with pytest.raises(StoreError, match="found no file"):
        run(copied, "--label", "category", "--queries", small.catalog)
