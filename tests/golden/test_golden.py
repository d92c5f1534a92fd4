"""Stores of every format version open, are searched and are continued; of a newer one a reader says so in one line."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from index_builder.search import Searcher
from tests.golden.make import ENCODER, GATES, MODIFIED_S, draw
from tests.golden.weights import write_weights
from tests.support.cli import shelfmark

HERE = Path(__file__).parent
FORMATS = sorted(path.name for path in HERE.iterdir() if path.name.isdigit())


@pytest.fixture(params=FORMATS)
def golden(request, tmp_path):
    """A copy to work on."""
    copied = tmp_path / "golden"
    shutil.copytree(HERE / request.param, copied)
    for picture in (copied / "catalog").glob("*.png"):
        os.utime(picture, (MODIFIED_S, MODIFIED_S))
    return copied


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("weights") / "golden.weights.h5")


def printed(*arguments: object, code: int = 0) -> Any:
    done = shelfmark(*arguments, "--format", "json")
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def versions_of(store: Path) -> list[str]:
    return sorted(path.parent.name for path in (store / "indexes").glob("*/manifest.json"))


def test_there_is_a_store_of_every_format():
    assert FORMATS == ["1"]


@pytest.mark.parametrize("store", ["store", "tree"])
def test_every_version_is_as_it_was_written_and_measures_as_it_did(golden, store):
    versions = versions_of(golden / store)
    assert versions
    for version in versions:
        checked = printed("index", "--store", golden / store, "--check", "--version", version)
        assert checked["measured"] == pytest.approx(checked["stated"], abs=0.01)


def test_the_published_version_answers_as_it_did(golden):
    asked = ["--image_id", "picture-3", "-k", "4"]
    found = printed("search", "--store", golden / "store", *asked)
    expected = json.loads((golden / "answer.json").read_text(encoding="utf-8"))
    for query, before in zip(found["queries"], expected["queries"], strict=True):
        for hit, hit_before in zip(query["hits"], before["hits"], strict=True):
            assert hit.pop("score") == pytest.approx(hit_before.pop("score"), abs=1e-5)
    assert found == expected


def test_a_tree_finds_rows_by_their_vectors_and_keeps_filters(golden):
    searcher = Searcher.open(str(golden / "tree"), verify=True)
    rows = np.arange(0, 640, 64)
    found = searcher.search(searcher.vectors(rows), k=1)
    assert found.rows[:, 0].tolist() == rows.tolist()
    category = searcher.rows.hit(0, 1.0).attributes["category"]
    (hits,) = searcher.search(searcher.vectors([0]), 3, {"category": category}).all_hits()
    assert {hit.attributes["category"] for hit in hits} == {category}


def test_lists_say_what_happened(golden):
    store = golden / "store"
    states = [version["state"] for version in printed("versions", "--store", store)["versions"]]
    assert states == ["kept", "published"]
    assert [run["outcome"] for run in printed("runs", "--store", store)["runs"]] == [
        "published",
        "published",
        "refused",
    ]
    rejects = printed("rejects", "--store", store)
    assert [(row["image_id"], row["reason"]) for row in rejects["rows"]] == [("missing", "not_found")]
    pruned = printed("prune", "--store", store, "--keep", "1", "--leftovers_after_hours", "0", "--dry_run")
    assert len(pruned["versions"]) == 1
    assert printed("rollback", "--store", store)["to"] == versions_of(store)[0]


@pytest.mark.slow
def test_a_night_with_nothing_new_embeds_nothing_and_one_with_a_picture_embeds_one(golden, weights):
    catalog, store = golden / "catalog" / "catalog.csv", golden / "store"
    night = ["reindex", "--catalog", catalog, "--store", store, "--weights", weights, *ENCODER, *GATES]
    for encoded in (0, 1):
        # The catalog has moved, so its files are looked at again; what they hold is known.
        record = printed(*night)
        assert (record["counts"]["encoded"], record["outcome"] in ("published", "nothing_to_do")) == (encoded, True)
        assert record["counts"]["reused"] == 11 - encoded
        draw(catalog.parent / "5.png", 99)
        os.utime(catalog.parent / "5.png", (MODIFIED_S + 60, MODIFIED_S + 60))
    assert printed("versions", "--store", store)["current"] == record["version"]
    again = printed("reindex", "--catalog", catalog, "--store", store, *GATES)
    assert (again["counts"]["encoded"], again["outcome"]) == (0, "nothing_to_do"), "the store's encoder is remembered"


@pytest.mark.slow
def test_the_catalog_gets_the_embeddings_and_the_fingerprint_that_it_had(golden, weights, tmp_path):
    catalog = golden / "catalog" / "catalog.csv"
    command = ["embed", "--catalog", catalog, "--store", tmp_path / "new", "--weights", weights, *ENCODER]
    made = printed(*command)
    newest = sorted((golden / "store" / "embeddings").glob("*/manifest.json"))[-1]
    before = json.loads(newest.read_text(encoding="utf-8"))
    assert made["encoder"] == before["encoder"]
    expected, found = embeddings(newest.parent, before), embeddings(Path(made["path"]), made)
    assert found.keys() == expected.keys()
    assert min(float(np.dot(vector, expected[name])) for name, vector in found.items()) > 0.99999


def embeddings(folder: Path, manifest: dict[str, Any]) -> dict[str, np.ndarray]:
    parts = [file["path"] for file in manifest["files"] if file["path"].startswith("part-")]
    rows = [row for part in parts for row in pq.read_table(folder / part).to_pylist()]
    return {row["image_id"]: np.array(row["embedding"]) for row in rows}


def bump(path: Path) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    document["format_version"] += 1
    path.write_text(json.dumps(document), encoding="utf-8")


@pytest.mark.parametrize(
    ("pattern", "command"),
    [
        ("indexes/*/manifest.json", ("search", "--image_id", "picture-3")),
        ("indexes/*/manifest.json", ("index", "--check")),
        ("embeddings/*/manifest.json", ("index",)),
        ("embeddings/*/manifest.json", ("index", "--check")),
        ("embeddings/*/manifest.json", ("rejects", "--snapshot", "{snapshot}")),
    ],
)
def test_a_reader_of_a_newer_format_says_so_in_one_line(golden, pattern, command):
    store = golden / "store"
    paths = sorted(store.glob(pattern))
    for path in paths:
        bump(path)
    words = [word.format(snapshot=paths[0].parent.name) for word in command]
    done = shelfmark(*words, "--store", store)
    assert (done.returncode, done.stdout) == (1, "")
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("shelfmark: ")]
    assert said.endswith("format: expected 1, found 2; use the Shelfmark that wrote it")


def test_a_run_of_a_newer_format_is_told_and_the_others_are_listed(golden):
    newest = sorted((golden / "store" / "runs").glob("*.json"))[-1]
    bump(newest)
    done = shelfmark("runs", "--store", golden / "store")
    assert done.returncode == 0
    (said,) = done.stderr.splitlines()
    assert said == f"{newest}: run format: expected at most 1, found 2; use the Shelfmark that wrote it"
    assert [line.split()[1] for line in done.stdout.splitlines()[1:]] == ["published", "published"]
