"""The steps of a run over versions that are made up: what each may do to the store, and when."""

from __future__ import annotations

import dataclasses

import pytest

from index_builder.build import IndexRequest
from pipelines.reindex_run import ReindexRun
from store.errors import StoreError
from store.index import list_versions, publish
from store.location import Store
from store.snapshot import Counts, read_manifest
from tests.support.small_reindex import REQUEST, new_run
from tests.support.versions import add_snapshot, add_version, name_of
from transforms.tally import WORK


@pytest.fixture
def store(tmp_path) -> Store:
    """Three versions of three snapshots, the newest published."""
    store = Store(str(tmp_path / "store"))
    for day in (1, 2, 3):
        add_snapshot(store, day)
        add_version(store, day)
    publish(store, name_of(3))
    return store


def run_without_news(store: Store) -> ReindexRun:
    """A run that finds the catalog as the newest snapshot has it, and is to keep one version."""
    request = dataclasses.replace(REQUEST, index=IndexRequest(), keep=1)
    run = new_run(store.local_path(""), None, request)  # type: ignore[arg-type]
    newest, work = read_manifest(store, name_of(3)), dict.fromkeys(WORK, 0)
    unchanged = dataclasses.replace(
        newest, snapshot=name_of(4), previous_snapshot=name_of(3), counts=Counts(5, 0, 5, 0), work=work
    )
    run._embed = lambda least: unchanged
    return run


def test_old_versions_are_deleted(store: Store) -> None:
    run_without_news(store).run(lambda: None)
    assert list_versions(store) == [name_of(3)]


def test_a_run_that_lost_its_lease_deletes_nothing(store: Store) -> None:
    """It has nothing to publish, yet the store is another run's by now, which may be reading the old versions."""

    def lost() -> None:
        raise StoreError("another run took over")

    run = run_without_news(store)
    with pytest.raises(StoreError, match="took over"):
        run.run(lost)
    assert run.record.outcome == "nothing_to_do"
    assert list_versions(store) == [name_of(day) for day in (1, 2, 3)]
