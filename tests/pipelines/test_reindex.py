"""Re-indexing runs end to end with a fake encoder: what they do, what they refuse, what a kill leaves."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from index_builder.search.searcher import Searcher
from pipelines.reindex_steps import bring_up_to_date
from store.errors import GateRefused, StoreError
from store.index import list_versions
from store.lease import LeaseHeld
from store.location import Store
from store.publication import read_current
from store.runs import read_runs
from store.snapshot import list_snapshots, read_manifest
from tests.support.drawn_catalog import draw, put
from tests.support.killed import killed_before, run_alone, steps_of
from tests.support.small_embed import embed_again, rows_of, write_catalog
from tests.support.small_reindex import REQUEST, check_published, new_run, reindex
from tests.support.versions import publish_now


@pytest.fixture
def rows(tmp_path):
    return draw(tmp_path, 30)


@pytest.fixture
def catalog(tmp_path, rows):
    return write_catalog(tmp_path / "c.csv", rows)


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


def published_ids(store: Path) -> set[str]:
    searcher = Searcher.open(str(store))
    return {searcher.rows.image_id(row) for row in range(len(searcher.rows))}


def test_a_store_is_brought_up_to_date_and_no_further(tmp_path, catalog, rows, store):
    first = reindex(store, catalog)
    assert (first.outcome, first.published_before) == ("published", None)
    assert first.counts["embedded"] == 30
    assert check_published(store) == first.version
    again = reindex(store, catalog)
    assert (again.outcome, again.snapshot, again.version) == ("nothing_to_do", first.snapshot, first.version)
    assert again.counts["fetched"] == 0
    assert len(list_snapshots(Store(str(store)))) == len(list_versions(Store(str(store)))) == 1
    put(tmp_path / "3.jpg", 1003, when=2)
    write_catalog(catalog, rows[:-2])
    changed = reindex(store, catalog)
    assert (changed.outcome, changed.published_before) == ("published", first.version)
    assert (changed.counts["embedded"], changed.counts["reused"], changed.counts["gone"]) == (1, 27, 2)
    assert {gate.gate: gate.passed for gate in changed.gates} == dict.fromkeys(
        ("rejects", "recall", "shrink", "overlap"), True
    )
    assert check_published(store) == changed.version
    assert published_ids(store) == {row["image_id"] for row in rows[:-2]}
    assert [record.outcome for record in read_runs(Store(str(store)))] == ["published", "nothing_to_do", "published"]


def test_a_catalog_that_lost_too_many_rows_is_not_published(catalog, rows, store):
    first = reindex(store, catalog)
    write_catalog(catalog, rows[:14])
    with pytest.raises(GateRefused, match=r"not committed: expected at least 15 pictures, .* found 14; is the catalog"):
        reindex(store, catalog)
    assert read_current(Store(str(store))) == first.version
    assert list_snapshots(Store(str(store))) == [first.snapshot], "tomorrow starts from what the catalog had"
    accepted = reindex(store, catalog, dataclasses.replace(REQUEST, max_shrink=0.7))
    assert check_published(store) == accepted.version == list_versions(Store(str(store)))[-1]


def test_neighbours_that_moved_too_far_are_not_published(tmp_path, catalog, store):
    first = reindex(store, catalog)
    for n in range(15):
        put(tmp_path / f"{n}.jpg", 77_000 + 999 * n, when=2)
    for _ in range(2):
        with pytest.raises(GateRefused, match=r"15 unchanged pictures keep .* at least --min_overlap 1"):
            reindex(store, catalog, dataclasses.replace(REQUEST, min_overlap=1.0))
        assert read_current(Store(str(store))) == first.version
    assert len(list_versions(Store(str(store)))) == 2, "a version that was refused is not built again"


def test_a_catalog_of_other_ids_needs_a_person(catalog, rows, store):
    reindex(store, catalog)
    write_catalog(catalog, [{**row, "image_id": f"other-{row['image_id']}"} for row in rows])
    with pytest.raises(GateRefused, match=r"no picture is in both versions; --min_overlap 0 publishes without"):
        reindex(store, catalog)
    assert reindex(store, catalog, dataclasses.replace(REQUEST, min_overlap=0.0)).outcome == "published"


def test_a_version_under_its_target_is_not_published(catalog, store, monkeypatch):
    monkeypatch.setattr("index_builder.build.exact_version.measure", lambda *_: 0.9)
    with pytest.raises(GateRefused, match=r"nothing is published: recall@3 0.9000, expected at least"):
        reindex(store, catalog)
    assert read_current(Store(str(store))) is None


def test_what_an_unchanged_catalog_is_asked_for_is_built(catalog, store):
    first = reindex(store, catalog)
    other = reindex(store, catalog, dataclasses.replace(REQUEST, k=5))
    assert other.outcome == "published"
    assert other.version != first.version
    assert other.snapshot == first.snapshot


def test_old_versions_and_snapshots_go(tmp_path, catalog, store):
    for run in range(4):
        put(tmp_path / "0.jpg", 500 + run, when=2 + run)
        record = reindex(store, catalog)
    assert len(list_versions(Store(str(store)))) == REQUEST.keep
    assert len(list_snapshots(Store(str(store)))) == REQUEST.keep
    assert check_published(store) == record.version


def test_a_run_that_lost_its_lease_publishes_nothing(catalog, store):
    run = new_run(store, catalog)

    def lost() -> None:
        raise StoreError("another run took over")

    with pytest.raises(StoreError, match="took over"):
        bring_up_to_date(run, lost)
    assert read_current(Store(str(store))) is None
    assert len(list_versions(Store(str(store)))) == 1


def _reindex_and_tell(store: Path, catalog: Path, told) -> None:
    try:
        told.put(reindex(store, catalog).outcome)
    except LeaseHeld as held:
        told.put(str(held))


def test_of_two_runs_at_once_one_works_and_the_other_leaves(catalog, store):
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    both = [context.Process(target=_reindex_and_tell, args=(store, catalog, told)) for _ in range(2)]
    for process in both:
        process.start()
    ends = sorted(told.get(timeout=120) for _ in both)
    for process in both:
        process.join()
    # The slower may also have come when the faster had done.
    assert "published" in ends
    other = next(end for end in ends if end != "published")
    assert other == "nothing_to_do" or "held by process" in other
    assert check_published(store) is not None
    assert len(list_versions(Store(str(store)))) == 1


def prepare_kills(folder: Path) -> tuple[Path, Path]:
    """A published store, a catalog that has changed since, and old versions to prune."""
    store, rows = folder / "store", draw(folder, 12)
    catalog = write_catalog(folder / "c.csv", [*rows, {"image_id": "gone", "image_uri": "gone.jpg"}])
    for run in range(2):
        put(folder / "0.jpg", 500 + run, when=2 + run)
        _in_child(store, catalog)
    put(folder / "1.jpg", 900, when=9)
    put(folder / "2.jpg", 2, when=9)
    write_catalog(catalog, [*rows[:-1], {"image_id": "new", "image_uri": put(folder / "new.jpg", 77).name}])
    return store, catalog


def _in_child(store: Path, catalog: Path) -> None:
    # In a child, as threads of a run that has ended would make the next fork unsafe.
    assert not killed_before(store, lambda: reindex(store, catalog), "no such step")


def kill_reindex(folder: Path) -> int:
    """Runs killed before every kind of step they take in the store; how many kinds there are."""
    store, catalog = prepare_kills(folder)
    shutil.copytree(store, folder / "before")

    def start_again() -> None:
        shutil.rmtree(store)
        shutil.copytree(folder / "before", store)

    published = check_published(store)
    steps = steps_of(store, lambda: reindex(store, catalog))
    finished = check_published(store)
    assert finished != published
    expected = rows_of(store, read_manifest(Store(str(store)), list_snapshots(Store(str(store)))[-1]))
    for step in steps:
        start_again()
        assert killed_before(store, lambda: reindex(store, catalog), step), step
        left = check_published(store)
        assert left is not None, step
        _in_child(store, catalog)
        newest = read_manifest(Store(str(store)), list_snapshots(Store(str(store)))[-1])
        assert rows_of(store, newest) == expected, step
        assert check_published(store) != published, step
        assert len(list_versions(Store(str(store)))) <= REQUEST.keep, step
    return len(steps)


@pytest.mark.slow
def test_a_run_killed_at_any_step_leaves_a_whole_version_and_the_next_finishes(tmp_path):
    assert run_alone("tests.pipelines.test_reindex", "kill_reindex", tmp_path) >= 15


def test_a_run_continues_with_what_a_dead_one_had_finished(catalog, store):
    embed_again(catalog, store)  # a run that died after its snapshot
    record = reindex(store, catalog)
    assert (record.counts["fetched"], record.snapshot) == (0, list_snapshots(Store(str(store)))[0])
    os.unlink(store / "indexes" / "CURRENT")  # and one that died before it published
    assert reindex(store, catalog).version == record.version
    assert len(list_versions(Store(str(store)))) == 1


def test_a_publisher_that_was_faster_is_seen_by_the_next_run(catalog, store):
    first = reindex(store, catalog)
    second = reindex(store, catalog, dataclasses.replace(REQUEST, k=5))
    publish_now(Store(str(store)), str(first.version))
    assert reindex(store, catalog).outcome == "nothing_to_do"
    assert read_current(Store(str(store))) == first.version != second.version


def test_the_published_embeddings_are_the_catalogs(catalog, store):
    reindex(store, catalog)
    rows = rows_of(store, read_manifest(Store(str(store)), list_snapshots(Store(str(store)))[-1]))
    searcher = Searcher.open(str(store))
    for row in range(len(searcher.rows)):
        expected = rows[searcher.rows.image_id(row)]["embedding"]
        np.testing.assert_allclose(searcher.vectors([row])[0], expected, atol=1e-6)


def test_sigterm_is_an_end_like_another(monkeypatch, capsys, catalog, store, tmp_path):
    from pipelines import reindex as use_case
    from pipelines.cli.main import main

    def embed(*_, **__):
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("expected the signal to end the run")

    monkeypatch.setattr(use_case, "embed_catalog", embed)
    metrics = tmp_path / "run.prom"
    arguments = ["reindex", "--catalog", str(catalog), "--store", str(store), "--metrics_file", str(metrics)]
    assert main(arguments) == 130
    assert "the steps that were done are kept, the one that ran starts over" in capsys.readouterr().err
    (record,) = read_runs(Store(str(store)))
    assert record.outcome == "interrupted"
    assert 'outcome="interrupted"} 1' in metrics.read_text()
    assert reindex(store, catalog).outcome == "published", "the lease was given back"
