"""`shelfmark search` over a real index of drawn pictures, against brute force over the snapshot."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from index_builder.search.neighbours import Query
from index_builder.search.rows import Hit
from pipelines.cli.main import run_command
from pipelines.cli.search import search_table
from pipelines.search_result import SearchQuery
from store.errors import StoreError, UserError
from store.snapshot import snapshot_folder
from tests.support.small_store import SmallStore, make_small_index

ITEMS, VIEWS = 30, 2


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallStore:
    return make_small_index(tmp_path_factory.mktemp("small"), ITEMS, VIEWS)


@pytest.fixture(scope="module")
def catalog(small: SmallStore) -> list[dict[str, Any]]:
    """The snapshot's rows."""
    folder = Path(small.uri, snapshot_folder(small.manifest.snapshot))
    return [row for file in small.manifest.files for row in pq.read_table(folder / file.path).to_pylist()]


def run(small: SmallStore, *arguments: object) -> int:
    return run_command(["search", "--store", small.uri, *map(str, arguments)])


@pytest.fixture
def search(small, capsys):
    """Runs the command and reads its JSON."""

    def search(*arguments: object) -> dict[str, Any]:
        assert run(small, *arguments, "--format", "json") == 0
        document: dict[str, Any] = json.loads(capsys.readouterr().out)
        return document

    return search


def nearest(catalog: list[dict[str, Any]], query: np.ndarray, without: set[str], k: int) -> list[tuple[str, float]]:
    """Exact search, in float64."""
    found = [
        (row["image_id"], float(np.dot(row["embedding"], query) / np.linalg.norm(query)))
        for row in catalog
        if row["image_id"] not in without
    ]
    return sorted(found, key=lambda pair: -pair[1])[:k]


def check_hits(hits: list[dict[str, Any]], expected: list[tuple[str, float]]) -> None:
    np.testing.assert_allclose([hit["score"] for hit in hits], [score for _, score in expected], atol=5e-3)
    assert {hit["image_id"] for hit in hits[:3]} <= {image_id for image_id, _ in expected}


def test_pictures_of_the_catalog_find_themselves_in_the_order_given(small, catalog, search):
    rows = [catalog[7], catalog[0]]
    files = [small.catalog.parent / row["image_uri"] for row in rows]
    document = search("--image", *files, "-k", 4)
    assert document.keys() == {"version", "snapshot", "k", "where", "queries"}
    assert (document["snapshot"], document["k"], document["where"]) == (small.manifest.snapshot, 4, {})
    assert [query["query"] for query in document["queries"]] == [str(file) for file in files]
    for row, query in zip(rows, document["queries"], strict=True):
        assert len(query["hits"]) == 4
        first = query["hits"][0]
        assert first["score"] == pytest.approx(1.0, abs=5e-3)
        assert {name: first[name] for name in ("image_id", "item_id", "image_uri")} == {
            name: row[name] for name in ("image_id", "item_id", "image_uri")
        }
        assert first["attributes"] == dict(row["attributes"])
        check_hits(query["hits"], nearest(catalog, np.array(row["embedding"]), set(), 4))


def test_an_item_is_the_mean_of_its_pictures_and_is_no_answer_to_itself(catalog, search):
    own = [row for row in catalog if row["item_id"] == catalog[5]["item_id"]]
    assert len(own) == VIEWS
    query = np.mean([row["embedding"] for row in own], axis=0)
    (answer,) = search("--item", own[0]["item_id"], "-k", 6)["queries"]
    assert answer["query"] == own[0]["item_id"]
    assert len(answer["hits"]) == 6
    assert own[0]["item_id"] not in {hit["item_id"] for hit in answer["hits"]}
    check_hits(answer["hits"], nearest(catalog, query, {row["image_id"] for row in own}, 6))


def test_a_picture_by_its_id_is_no_answer_to_itself_but_its_siblings_may_be(catalog, search):
    row = catalog[9]
    (answer,) = search("--image_id", row["image_id"], "-k", ITEMS * VIEWS + 5)["queries"]
    found = [hit["image_id"] for hit in answer["hits"]]
    assert sorted(found) == sorted(other["image_id"] for other in catalog if other is not row)
    check_hits(answer["hits"], nearest(catalog, np.array(row["embedding"]), {row["image_id"]}, len(catalog)))


@pytest.mark.parametrize(("by", "column"), [("--item", "item_id"), ("--image_id", "image_id")])
def test_grouped_by_item_the_own_item_is_left_out(catalog, search, by, column):
    row = catalog[11]
    (answer,) = search(by, row[column], "-k", 8, "--group_by", "item")["queries"]
    items = [hit["item_id"] for hit in answer["hits"]]
    assert len(items) == len(set(items)) == 8
    assert row["item_id"] not in items


def test_a_filter_holds_for_every_answer_and_keeps_the_best_of_what_matches(catalog, search):
    row = catalog[3]
    attributes = dict(row["attributes"])
    others = {other["image_id"] for other in catalog if dict(other["attributes"])["category"] != attributes["category"]}
    document = search("--image_id", row["image_id"], "--where", f"category={attributes['category']}", "-k", 3)
    hits = document["queries"][0]["hits"]
    assert document["where"] == {"category": attributes["category"]}
    assert {hit["attributes"]["category"] for hit in hits} == {attributes["category"]}
    check_hits(hits, nearest(catalog, np.array(row["embedding"]), others | {row["image_id"]}, 3))


def test_a_filter_that_nothing_passes_finds_nothing(small, catalog, capsys):
    assert run(small, "--image_id", catalog[0]["image_id"], "--where", "category=none of these") == 0
    assert capsys.readouterr().out == f"{catalog[0]['image_id']}\nnothing found\n"


def test_untrained_weights_are_owned_up_to(small, catalog, caplog):
    run(small, "--image_id", catalog[0]["image_id"])
    assert "random:3" in caplog.text
    assert "untrained" in caplog.text


def test_the_table_is_aligned_and_has_a_block_to_each_query():
    hits = [
        Hit("i1", "mug-1", "a/b.jpg", 0.98765, {"category": "mug", "colour": "dark\nred"}, 4),
        Hit("i22", "m", "c.jpg", -0.5, {}, 1),
    ]
    text = search_table(
        [SearchQuery(name, Query(np.ones(2, np.float32))) for name in ("one.jpg", "two.jpg")], [hits, hits[1:]]
    )
    assert text.splitlines() == [
        "one.jpg",
        "rank  score    item_id  image_id  image_uri  attributes",
        "1     0.9877   mug-1    i1        a/b.jpg    category=mug colour=dark red",
        "2     -0.5000  m        i22       c.jpg",
        "",
        "two.jpg",
        "rank  score    item_id  image_id  image_uri  attributes",
        "1     -0.5000  m        i22       c.jpg",
    ]


def test_the_sheet_shows_query_and_answers_and_opens_offline(small, catalog, tmp_path, caplog):
    picture = small.catalog.parent / catalog[0]["image_uri"]
    run(small, "--image", picture, "-k", 3, "--sheet", tmp_path / "sheet.html")
    page = (tmp_path / "sheet.html").read_text(encoding="utf-8")
    assert page.count("data:image/") == 4
    assert catalog[0]["item_id"] in page
    assert 'src="http' not in page
    assert "no pictures" not in caplog.text


def test_a_sheet_of_a_catalog_that_moved_is_made_without_pictures_and_says_so(small, catalog, tmp_path, caplog):
    pictures = small.catalog.parent / "images"
    moved = pictures.rename(pictures.with_name("elsewhere"))
    try:
        run(small, "--item", catalog[0]["item_id"], "-k", 3, "--sheet", tmp_path / "sheet.html")
    finally:
        moved.rename(pictures)
    assert "data:image/" not in (tmp_path / "sheet.html").read_text(encoding="utf-8")
    assert "none could be read" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "--image --item --image_id"),
        (["--item", "a", "--image_id", "b"], "not allowed with"),
        (["--item", "no such item"], "no such item"),
        (["--image_id", "no such picture"], "no such picture"),
        (["--image", "none.jpg"], "none.jpg"),
        (["--image", "{table}"], "not_an_image"),
        (["--item", "{item}", "--where", "category"], "expected ATTRIBUTE=VALUE, found 'category'"),
        (["--item", "{item}", "--where", "size=1"], "category, colour, pattern, title"),
        (["--item", "{item}", "--where", "category=a", "--where", "category=b"], "given twice"),
        (["--item", "{item}", "--version", "20200101T000000Z-000000"], "20200101T000000Z-000000"),
        (["--item", "{item}", "-k", "0"], "a whole number from 1"),
        (["--item", "{item}", "--sheet", "/no/such/folder/s.html"], "/no/such/folder/s.html"),
    ],
)
def test_a_mistake_is_one_line(small, catalog, arguments, says):
    arguments = [text.format(table=small.catalog, item=catalog[0]["item_id"]) for text in arguments]
    with pytest.raises(UserError) as caught:
        run(small, *arguments)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_weights_than_the_catalogs_are_refused(small, catalog, tmp_path):
    store = tmp_path / "store"
    shutil.copytree(small.uri, store)
    copied = SmallStore(small.catalog, str(store), small.manifest)
    copied.weights_file().write_bytes(b"others")
    picture = small.catalog.parent / catalog[0]["image_uri"]
    with pytest.raises(StoreError, match=copied.weights_file().name):
        run(copied, "--image", picture)
