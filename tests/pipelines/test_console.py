"""What a catalog, a server or a damaged store says is shown, and obeyed by no terminal: through the commands."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from index_builder.search.engine import ExactEngine
from index_builder.search.rows import Rows, row_table
from index_builder.search.searcher import Searcher
from pipelines import evaluate, search
from pipelines.console import LOG, align, quiet_libraries, show
from pipelines.flag_types import new_parser
from pipelines.main import main
from pipelines.summary import snapshot_table
from store.index import IndexManifest, version_folder
from store.location import Store
from store.measured import ExactConfig, Recall, ShardEntry
from store.runs import write_run
from store.snapshot import Counts, SnapshotManifest
from tests.store.test_runs import of_day
from tests.store.test_terminal_text import STRANGE
from tests.support.versions import LATENCY, add_version, name_of

EVIL = "red\x1b[2J\x9b1m\u202eder\x07\u2028\x7f\r\n\tx"


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Leaves the loggers and warnings as they were."""
    root = logging.getLogger()
    before = list(LOG.handlers), LOG.level, LOG.propagate, list(root.handlers), root.level
    yield
    LOG.handlers[:], LOG.level, LOG.propagate, root.handlers[:], root.level = before


@pytest.fixture
def searcher(monkeypatch: pytest.MonkeyPatch) -> Searcher:
    """An index whose every word is hostile."""
    count = 4
    columns = {
        "image_id": [f"i{row}{EVIL}" for row in range(count)],
        "item_id": [f"item{row // 2}{EVIL}" for row in range(count)],
        "image_uri": [f"{row}{EVIL}.jpg" for row in range(count)],
        "attributes": pa.array([[(f"kind{EVIL}", EVIL)]] * count, pa.map_(pa.string(), pa.string())),
    }
    encoder = {"embedding_dim": 4, "weights": EVIL, "backbone": EVIL}
    manifest = IndexManifest(
        name_of(1), "", name_of(1), encoder, count, (ShardEntry("shard-00000", count),),
        ExactConfig(), Recall(10, 0.95, 1.0), LATENCY, 0, (), {}, {},
    )  # fmt: skip
    made = Searcher(manifest, ExactEngine(np.eye(4, dtype=np.float32)), Rows([row_table(pa.table(columns))]))
    for module in (search, evaluate):
        monkeypatch.setattr(module, "open_searcher", lambda *_: made)
    return made


def flags_of(add: Any, *arguments: str) -> argparse.Namespace:
    parser, commands = new_parser()
    add(commands)
    return parser.parse_args(list(arguments))


def assert_harmless(text: str) -> None:
    assert text
    assert set(text) & set(STRANGE) <= {"\n"}


def test_search(searcher, capsys):
    arguments = ["search", "--store", "s", "--item", f"item0{EVIL}"]
    search.run_search(flags_of(search.add_search, *arguments))
    text = capsys.readouterr().out
    assert_harmless(text)
    assert r"red\x1b[2J\x9b1m\u202eder\x07" in text
    assert len(text.splitlines()) == 1 + 1 + 2, "a name, the heads, two answers"
    search.run_search(flags_of(search.add_search, *arguments, "--format", "json"))
    document = capsys.readouterr().out
    assert_harmless(document)
    assert json.loads(document)["queries"][0]["query"] == f"item0{EVIL}"


def test_evaluate(searcher, capsys):
    arguments = ["evaluate", "--store", "s", "--label", f"kind{EVIL}"]
    evaluate.run_evaluate(flags_of(evaluate.add_evaluate, *arguments))
    assert_harmless(capsys.readouterr().out)
    evaluate.run_evaluate(flags_of(evaluate.add_evaluate, *arguments, "--format", "json"))
    document = capsys.readouterr().out
    assert_harmless(document)
    assert EVIL in json.loads(document)["per_label"]


def test_runs_and_versions(tmp_path, capsys):
    store = Store(str(tmp_path))
    write_run(store, of_day(2, outcome="refused", message=EVIL))
    version = add_version(store, 1)
    path = f"{version_folder(version)}/manifest.json"
    store.replace(path, json.dumps({**json.loads(store.read(path)), "created_at": EVIL}).encode())
    for command in ("runs", "versions"):
        for form in ("text", "json"):
            assert main([command, "--store", store.uri, "--format", form]) == 0
            assert_harmless(capsys.readouterr().out)


@pytest.mark.parametrize("verbose", [False, True])
def test_errors_and_log_lines(verbose, capsys):
    more = ["--verbose"] if verbose else []
    assert main(["runs", "--store", f"none{EVIL}://x", *more]) == 2
    assert_harmless(capsys.readouterr().err)
    quiet_libraries(verbose)
    try:
        raise ValueError(EVIL)
    except ValueError:
        LOG.exception(EVIL)
    logging.getLogger("a.library").critical(EVIL)
    said = capsys.readouterr().err
    assert set(said) & set(STRANGE) <= {"\n", "\t"}
    assert r"\x1b[2J" in said


def test_a_runs_summary(capsys):
    manifest = SnapshotManifest(
        name_of(1), "", EVIL, None, {"backbone": EVIL, "precision": EVIL, "weights": EVIL}, Counts(1, 0, 0, 1),
        {EVIL: 1}, (), {"pictures_per_s": 1.0, "seconds": 1.0}, {},
    )  # fmt: skip
    show(snapshot_table(Store("s"), manifest))
    assert set(capsys.readouterr().out) & set(STRANGE) <= {"\n", "\t"}


def test_an_error_without_words_is_told_by_its_name(monkeypatch, capsys):
    def fail(*_: object) -> int:
        raise MemoryError

    monkeypatch.setattr("pipelines.main._run", fail)
    assert main(["runs"]) == 1
    assert capsys.readouterr().err == "shelfmark: MemoryError\n"


def test_columns_are_as_wide_as_what_is_shown():
    assert align([("a", "b"), ("\x1b", "22")]) == ["a     b", "\\x1b  22"]
    assert align([("a", "b"), ("x", "22")], numbers=True) == ["a   b", "x  22"]
