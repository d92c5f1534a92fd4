"""What a re-indexing run makes of damage, a lost CURRENT, a person's rollback and answers that were lost."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from pipelines import reindex_steps
from pipelines.reindex_steps import Reindexing, bring_up_to_date
from pipelines.requests import ReindexRequest
from store.errors import GateRefused, StoreError
from store.index import list_versions
from store.location import Store
from store.measured import GateVerdict
from store.publication import publish, read_current
from store.snapshot import Counts, list_snapshots, read_manifest
from tests.support.drawn_catalog import draw, put
from tests.support.small_embed import embed_again, write_catalog
from tests.support.small_reindex import REQUEST, check_published, new_run, reindex
from tests.support.versions import add_snapshot, add_version, name_of, publish_now
from transforms.run_counts import WORK


@pytest.fixture
def rows(tmp_path):
    return draw(tmp_path, 30)


@pytest.fixture
def catalog(tmp_path, rows):
    return write_catalog(tmp_path / "c.csv", rows)


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def made_up(tmp_path):
    """A store of three versions of three snapshots, the newest published."""
    store = Store(str(tmp_path / "made up"))
    for day in (1, 2, 3):
        add_snapshot(store, day)
        add_version(store, day)
    publish_now(store, name_of(3))
    return store


def run_without_news(store: Store) -> Reindexing:
    """A run that finds the catalog as the newest snapshot has it, and is to keep one version."""
    request = dataclasses.replace(REQUEST, k=ReindexRequest.k, keep=1)
    run = new_run(store.local_path(""), None, request)  # type: ignore[arg-type]
    newest, work = read_manifest(store, name_of(3)), dict.fromkeys(WORK, 0)
    unchanged = dataclasses.replace(
        newest, snapshot=name_of(4), previous_snapshot=name_of(3), counts=Counts(5, 0, 5, 0), work=work
    )
    return dataclasses.replace(run, embed=lambda *, least_rows: unchanged)


def test_old_versions_are_deleted(made_up):
    bring_up_to_date(run_without_news(made_up), lambda: None)
    assert list_versions(made_up) == [name_of(3)]


def test_a_run_that_lost_its_lease_deletes_nothing(made_up):
    """It has nothing to publish, yet the store is another run's by now, which may be reading the old versions."""

    def lost() -> None:
        raise StoreError("another run took over")

    run = run_without_news(made_up)
    with pytest.raises(StoreError, match="took over"):
        bring_up_to_date(run, lost)
    assert run.journal.record.outcome == "nothing_to_do"
    assert list_versions(made_up) == [name_of(day) for day in (1, 2, 3)]


def cut(path: Path, data: bytes) -> bytes:
    return data[: len(data) // 2]


def flip(path: Path, data: bytes) -> bytes:
    return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]


def empty(path: Path, data: bytes) -> bytes:
    return b""


@pytest.mark.parametrize(
    ("file", "harm"),
    [("part-*", cut), ("part-*", empty), ("part-*", None), ("part-*", flip), ("manifest.json", cut)],
)
def test_a_damaged_snapshot_is_set_aside_and_what_is_missing_is_embedded_again(
    tmp_path, catalog, rows, store, capsys, file, harm
):
    reindex(store, catalog)
    put(tmp_path / "3.jpg", 1003, when=2)
    second = reindex(store, catalog)
    damaged = max((store / "embeddings" / str(second.snapshot)).glob(file), key=lambda path: path.stat().st_size)
    data = damaged.read_bytes()
    damaged.unlink()
    if harm is not None:
        damaged.write_bytes(harm(damaged, data))
    put(tmp_path / "4.jpg", 1004, when=3)
    third = reindex(store, catalog)
    assert f"embeddings/{second.snapshot} is damaged and set aside: " in capsys.readouterr().out
    assert third.outcome == "published"
    # What the whole snapshot before has is taken from there, and the two pictures that changed since are made anew.
    assert (third.counts["embedded"], third.counts["reused"]) == (2, 28)
    assert check_published(store) == third.version
    assert {gate.gate: gate.passed for gate in third.gates}["overlap"]
    assert second.snapshot not in list_snapshots(Store(str(store)))


def test_a_snapshot_that_rots_before_it_is_indexed_is_made_anew(tmp_path, catalog, store, capsys):
    first = reindex(store, catalog)
    put(tmp_path / "3.jpg", 1003, when=2)
    rotten = embed_again(catalog, store).snapshot  # a run that died after its snapshot
    damaged = max((store / "embeddings" / rotten).glob("part-*"), key=lambda path: path.stat().st_size)
    damaged.write_bytes(flip(damaged, damaged.read_bytes()))
    run = dataclasses.replace(new_run(store, catalog), say=print)
    bring_up_to_date(run, lambda: None)
    assert f"embeddings/{rotten} is damaged and set aside: " in capsys.readouterr().out
    assert (run.journal.record.outcome, run.journal.record.published_before) == ("published", first.version)
    assert run.journal.record.counts["embedded"] == 1
    assert check_published(store) == run.journal.record.version


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("file", ["manifest.json", "shard-00000/rows.arrow"])
def test_a_damaged_version_is_not_used_and_stops_nothing(tmp_path, catalog, store, published, file):
    versions = [reindex(store, catalog).version]
    put(tmp_path / "3.jpg", 1003, when=2)
    versions.append(reindex(store, catalog).version)
    damaged = store / "indexes" / str(versions[published]) / file
    damaged.write_bytes(damaged.read_bytes()[:99])
    put(tmp_path / "4.jpg", 1004, when=3)
    said: list[str] = []
    run = dataclasses.replace(new_run(store, catalog), say=said.append)
    bring_up_to_date(run, lambda: None)
    assert run.journal.record.outcome == "published"
    assert run.journal.record.published_before == versions[not published], "gates compare with the one that is whole"
    assert check_published(store) == run.journal.record.version
    fate = "is published and damaged: " if published else "is damaged and set aside: "
    assert any(line.startswith(f"indexes/{versions[published]} {fate}") for line in said)


def test_a_lost_current_is_told_and_the_gates_hold_all_the_same(catalog, rows, store):
    first = reindex(store, catalog)
    (store / "indexes" / "CURRENT").unlink()
    write_catalog(catalog, rows[:6])
    said: list[str] = []
    run = dataclasses.replace(new_run(store, catalog), say=said.append)
    with pytest.raises(GateRefused, match=r"not committed: expected at least 15 pictures, .* found 6"):
        bring_up_to_date(run, lambda: None)
    assert read_current(Store(str(store))) is None
    assert run.journal.record.published_before == first.version
    assert any("CURRENT is missing, though there are versions" in line for line in said)
    shutil.rmtree(store / "indexes" / str(first.version))
    with pytest.raises(GateRefused, match=r"expected at least 15 pictures"):
        reindex(store, catalog)  # nothing but the run's record tells
    write_catalog(catalog, rows)
    assert check_published(store) is None
    assert reindex(store, catalog).outcome == "published"


def test_a_rollback_stands_until_somebody_says_publish(tmp_path, catalog, store):
    first = reindex(store, catalog)
    put(tmp_path / "3.jpg", 1003, when=2)
    second = reindex(store, catalog)
    publish_now(Store(str(store)), str(first.version), by="rollback")
    put(tmp_path / "4.jpg", 1004, when=3)
    run = new_run(store, catalog)
    with pytest.raises(GateRefused, match=f"rolled back from {second.version} to {first.version} .*--publish"):
        bring_up_to_date(run, lambda: None)
    assert run.journal.record.gates == (GateVerdict("rollback", 1.0, 0.0, False),)
    assert read_current(Store(str(store))) == first.version
    assert list_snapshots(Store(str(store)))[-1] == second.snapshot, "nothing was embedded for nothing"
    third = reindex(store, catalog, dataclasses.replace(REQUEST, publish=True))
    assert (third.outcome, third.published_before) == ("published", first.version)
    assert [gate.gate for gate in third.gates] == ["rollback", "rejects", "recall", "shrink", "overlap"]
    assert reindex(store, catalog).outcome == "nothing_to_do", "and that is that"


def test_a_rollback_during_a_run_stands(tmp_path, catalog, store):
    first = reindex(store, catalog)
    put(tmp_path / "3.jpg", 1003, when=2)
    second = reindex(store, catalog)
    put(tmp_path / "4.jpg", 1004, when=3)
    run = new_run(store, catalog)

    def check_lease() -> None:
        publish_now(Store(str(store)), str(first.version), by="rollback")

    with pytest.raises(StoreError, match=f"is not published: CURRENT was {second.version} when this began"):
        bring_up_to_date(run, check_lease)
    assert read_current(Store(str(store))) == first.version
    assert run.journal.record.outcome == "running", "and whoever runs it says that it failed"


@pytest.mark.parametrize("error", [KeyboardInterrupt, StoreError])
def test_what_was_published_is_told_though_the_answer_was_lost(catalog, store, monkeypatch, error):
    run, plain = new_run(store, catalog), publish

    def publish_and_lose_the_answer(*arguments, **how):
        plain(*arguments, **how)
        raise error("no answer")

    monkeypatch.setattr(reindex_steps, "publish", publish_and_lose_the_answer)
    with pytest.raises(error):
        bring_up_to_date(run, lambda: None)
    assert (run.journal.record.outcome, run.journal.record.version) == ("published", check_published(store))
