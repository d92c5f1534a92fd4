"""What a catalog, a server or a damaged store says is shown, and obeyed by no terminal: through the commands."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index_builder.search.engine import ExactEngine
from index_builder.search.rows import Rows, row_table
from index_builder.search.searcher import Searcher
from pipelines import evaluate
from pipelines.cli import search as cli_search
from pipelines.cli.console import align, fit, quiet_libraries, show
from pipelines.cli.main import main, run_command
from pipelines.log import LOG
from pipelines.results import Snapshot
from pipelines.search import CatalogSearcher
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
    opened = CatalogSearcher(Store("s"), made)
    monkeypatch.setattr(evaluate, "open_searcher", lambda *_: opened)
    monkeypatch.setattr(cli_search, "open_searcher", lambda *_, **__: opened)
    return made


def assert_harmless(text: str) -> None:
    assert text
    assert set(text) & set(STRANGE) <= {"\n"}


def test_search(searcher, capsys):
    arguments = ["search", "--store", "s", "--item", f"item0{EVIL}"]
    run_command(arguments)
    text = capsys.readouterr().out
    assert_harmless(text)
    assert r"red\x1b[2J\x9b1m\u202eder\x07" in text
    assert len(text.splitlines()) == 1 + 1 + 2, "a name, the heads, two answers"
    run_command([*arguments, "--format", "json"])
    document = capsys.readouterr().out
    assert_harmless(document)
    assert json.loads(document)["queries"][0]["query"] == f"item0{EVIL}"


def test_evaluate(searcher, capsys):
    arguments = ["evaluate", "--store", "s", "--label", f"kind{EVIL}"]
    run_command(arguments)
    assert_harmless(capsys.readouterr().out)
    run_command([*arguments, "--format", "json"])
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
    show(str(Snapshot.of(Store("s"), manifest)))
    assert set(capsys.readouterr().out) & set(STRANGE) <= {"\n", "\t"}


def test_an_error_without_words_is_told_by_its_name(monkeypatch, capsys):
    def fail(*_: object) -> int:
        raise MemoryError

    monkeypatch.setattr("pipelines.cli.main.run_command", fail)
    assert main(["runs"]) == 1
    assert capsys.readouterr().err == "shelfmark: MemoryError\n"


def test_columns_are_as_wide_as_what_is_shown():
    assert align([("a", "b"), ("\x1b", "22")]) == ["a     b", "\\x1b  22"]
    assert align([("a", "b"), ("x", "22")], numbers=True) == ["a   b", "x  22"]


@given(st.lists(st.integers(1, 200), min_size=1, max_size=8), st.integers(0, 300))
def test_columns_give_way_to_the_terminal_the_widest_first(widths, room):
    fitted = fit(widths, room)
    total = sum(fitted) + 2 * (len(fitted) - 1)
    assert all(0 < after <= before for after, before in zip(fitted, widths, strict=True))
    assert total <= room or max(fitted) <= 8
    cut = [width for width, before in zip(fitted, widths, strict=True) if width < before]
    if cut:
        assert max(fitted) - min(cut) <= 1, "none is cut while a wider one is left"
    else:
        assert fitted == widths


def test_a_table_on_a_terminal_is_no_wider_than_it(monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "40")
    lines = align([("name", "uri"), ("a", "x" * 90)])
    assert lines == ["name  uri", f"a     {'x' * 33}…"]
