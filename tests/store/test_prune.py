from __future__ import annotations

import datetime
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from store.building import BUILDING_FILE, Building
from store.damage import set_aside
from store.errors import StoreError
from store.index import list_versions, read_index_manifest, version_folder
from store.location import Store
from store.prune import Pruned, plan_prune, prune
from store.publication import current_version
from store.snapshot import list_snapshots, snapshot_folder
from tests.support.killed import killed_at_every_step, run_alone
from tests.support.memory_store import memory_store
from tests.support.versions import CONTENT, add_snapshot, add_version, files_below, name_of, publish_now, verify_files

DAY = datetime.timedelta(days=1)


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


@pytest.fixture(params=["local", "objects"])
def store(request, tmp_path, monkeypatch):
    """A local folder, and a file system in memory that is handled as an object store is."""
    return Store(str(tmp_path)) if request.param == "local" else memory_store(monkeypatch)


def fill(store: Store, days: int, published: int) -> None:
    """A snapshot and a version of it on every day."""
    for day in range(1, days + 1):
        add_snapshot(store, day)
        add_version(store, day)
    publish_now(store, name_of(published))


def names(*days: int) -> list[str]:
    return [name_of(day) for day in days]


def test_the_newest_stay_and_the_rest_goes_with_its_snapshots(store):
    fill(store, 5, published=5)
    store.replace("indexes/notes.txt", b"mine")
    before = sum(store.total_bytes(folder) for folder in ("indexes", "embeddings"))
    plan = plan_prune(store, 2, now(), DAY)
    assert list_versions(store) == names(1, 2, 3, 4, 5)
    pruned = prune(store, 2, now(), DAY)
    assert pruned == plan
    assert (pruned.versions, pruned.snapshots, pruned.leftovers) == (tuple(names(1, 2, 3)), tuple(names(1, 2, 3)), ())
    assert store.list("indexes") == [*names(4, 5), "CURRENT", "notes.txt"]
    assert store.list("embeddings") == names(4, 5)
    assert before - sum(store.total_bytes(folder) for folder in ("indexes", "embeddings")) == pruned.bytes > 0
    for version in list_versions(store):
        verify_files(store, read_index_manifest(store, version))
    assert prune(store, 2, now(), DAY) == Pruned((), (), ())


def test_the_published_version_and_its_snapshot_stay_however_old(store):
    fill(store, 5, published=2)
    assert prune(store, 1, now(), DAY).versions == tuple(names(1, 3, 4))
    assert list_versions(store) == names(2, 5)
    # 3 and 4 are newer than what is published: somebody may be about to index them
    assert list_snapshots(store) == names(2, 3, 4, 5)


def test_a_fresh_snapshot_survives_and_an_old_one_no_version_names_does_not(store):
    fill(store, 4, published=4)
    for day in (5, 6):
        add_snapshot(store, day)
    assert prune(store, 2, now(), DAY).snapshots == tuple(names(1, 2))
    assert list_snapshots(store) == names(3, 4, 5, 6)


def test_the_newest_snapshot_survives_though_an_older_one_was_indexed_last(store):
    for day in (1, 2, 3):
        add_snapshot(store, day)
    publish_now(store, add_version(store, 9, snapshot_day=2))
    assert prune(store, 1, now(), DAY).snapshots == (name_of(1),)


def test_the_newest_snapshot_survives_though_the_published_ones_is_gone(store):
    for day in (1, 2):
        add_snapshot(store, day)
    publish_now(store, add_version(store, 9, snapshot_day=3))
    assert prune(store, 1, now(), DAY).snapshots == (name_of(1),)


def test_before_the_first_publication_no_snapshot_goes(store):
    for day in (1, 2, 3):
        add_snapshot(store, day)
    assert prune(store, 1, now(), DAY) == Pruned((), (), ())


def test_versions_under_their_target_are_counted_apart(store):
    for day in (1, 3, 5):
        add_version(store, day)
    for day in (2, 4, 6, 7):
        add_version(store, day, measured=0.5)
    publish_now(store, name_of(5))
    assert prune(store, 2, now(), DAY).versions == tuple(names(1, 2, 4))
    assert list_versions(store) == names(3, 5, 6, 7)


def test_what_is_being_built_stays_with_the_snapshot_it_reads(store):
    fill(store, 5, published=5)
    with Building(store, name_of(6), name_of(1)), Building(store, name_of(2), name_of(2)):
        plan = plan_prune(store, 1, now(), datetime.timedelta(0))
        pruned = prune(store, 1, now(), datetime.timedelta(0))
        assert pruned == plan
        assert pruned.versions == tuple(names(1, 3, 4))
        assert pruned.snapshots == tuple(names(3, 4))
        assert pruned.leftovers == ()
        assert store.list(version_folder(name_of(6))) == [BUILDING_FILE]
    assert prune(store, 1, now(), datetime.timedelta(0)).snapshots == tuple(names(1, 2))


def test_a_dead_builders_folder_goes_at_once_and_one_without_a_sign_after_a_while(store):
    fill(store, 1, published=1)
    for day in (2, 3):
        store.replace(f"{version_folder(name_of(day))}/shard-00000/codes.npy", CONTENT)
    with Building(store, name_of(2), name_of(1)):
        sign = json.loads(store.read(f"{version_folder(name_of(2))}/{BUILDING_FILE}"))
    long_ago = (now() - datetime.timedelta(minutes=16)).isoformat()
    store.replace(
        f"{version_folder(name_of(2))}/{BUILDING_FILE}", json.dumps({**sign, "heartbeat_at": long_ago}).encode()
    )
    assert prune(store, 1, now(), DAY).leftovers == (f"indexes/{name_of(2)}",)
    assert prune(store, 1, now() + 2 * DAY, DAY).leftovers == (f"indexes/{name_of(3)}",)
    assert store.list("indexes") == [name_of(1), "CURRENT"]


def test_a_snapshot_without_a_manifest_goes_once_it_is_quiet(store):
    fill(store, 2, published=2)
    store.replace(f"{snapshot_folder(name_of(3))}/part-0.parquet", CONTENT)
    store.replace("embeddings/notes/part-0.parquet", CONTENT)
    assert prune(store, 2, now(), DAY) == Pruned((), (), ())
    pruned = prune(store, 2, now() + 2 * DAY, DAY)
    assert (pruned.leftovers, pruned.bytes) == ((f"embeddings/{name_of(3)}",), len(CONTENT))
    assert store.list("embeddings") == [*names(1, 2), "notes"]


def test_a_cut_write_of_current_goes_once_it_is_quiet(tmp_path):
    store = Store(str(tmp_path))
    fill(store, 1, published=1)
    (tmp_path / "indexes" / "CURRENT.0123.tmp").write_bytes(b"2026")
    assert prune(store, 1, now(), DAY).leftovers == ()
    assert prune(store, 1, now() + 2 * DAY, DAY).leftovers == ("indexes/CURRENT.0123.tmp",)
    assert store.list("indexes") == [name_of(1), "CURRENT"]


def test_current_without_its_manifest_stops_everything(store):
    fill(store, 3, published=2)
    store.remove(f"{version_folder(name_of(2))}/manifest.json")
    with pytest.raises(StoreError, match="rollback --to"):
        prune(store, 1, now(), datetime.timedelta(0))
    assert store.list("indexes") == [*names(1, 2, 3), "CURRENT"]


def test_a_cut_manifest_stops_nothing_and_its_version_is_left_alone(store):
    fill(store, 4, published=4)
    path = f"{version_folder(name_of(1))}/manifest.json"
    store.replace(path, store.read(path)[:100])
    pruned = prune(store, 1, now(), DAY)
    assert (pruned.versions, pruned.damaged) == (tuple(names(2, 3)), tuple(names(1)))
    assert list_versions(store) == names(1, 4)
    assert list_snapshots(store) == names(4)
    set_aside(store, version_folder(name_of(1)))
    assert prune(store, 1, now() + 2 * DAY, DAY).leftovers == (version_folder(name_of(1)),)
    assert list_versions(store) == names(4)


def test_a_lost_current_stops_everything(store):
    fill(store, 3, published=2)
    store.remove("indexes/CURRENT")
    with pytest.raises(StoreError, match=rf"CURRENT is missing, .* rollback --store .* publishes {name_of(2)}"):
        prune(store, 1, now(), DAY)
    assert list_versions(store) == names(1, 2, 3)


def test_a_manifest_of_another_format_stops_everything(store):
    fill(store, 3, published=3)
    store.replace(f"{version_folder(name_of(1))}/manifest.json", b'{"format_version": 2}')
    with pytest.raises(StoreError, match=f"{name_of(1)}.*expected 1, found 2"):
        prune(store, 1, now(), DAY)
    assert store.list("indexes") == [*names(1, 2, 3), "CURRENT"]


def test_a_version_published_while_it_is_pruned_stays_whole(store, monkeypatch):
    fill(store, 3, published=3)
    plain = Store.remove

    def publish_first(self, path, **how):
        if path == f"{version_folder(name_of(1))}/manifest.json":
            publish_now(self, name_of(1))
        plain(self, path, **how)

    monkeypatch.setattr(Store, "remove", publish_first)
    assert prune(store, 1, now(), DAY).versions == (name_of(2),)
    assert current_version(store) == name_of(1)
    verify_files(store, read_index_manifest(store, name_of(1)))
    assert name_of(1) in list_snapshots(store)
    assert store.list(version_folder(name_of(1))) == ["manifest.json", "published.json", "shard-00000"]


def test_readers_keep_their_files(tmp_path):
    store = Store(str(tmp_path))
    fill(store, 2, published=2)
    path = tmp_path / version_folder(name_of(1)) / "shard-00000" / "vectors.npy"
    mapped, arrow = np.memmap(path, np.uint8, "r"), pa.memory_map(str(path))
    assert prune(store, 1, now(), DAY).versions == (name_of(1),)
    assert not path.exists()
    assert mapped.tobytes() == CONTENT
    assert arrow.read() == CONTENT


def refill(folder: Path) -> None:
    """Four versions of four snapshots, and what a build that is long dead left."""
    shutil.rmtree(folder)
    store = Store(str(folder))
    fill(store, 4, published=4)
    store.replace(f"{version_folder(name_of(5))}/codes.npy", CONTENT)
    os.utime(folder / version_folder(name_of(5)) / "codes.npy", (0, 0))


def kill_prunes(folder: Path) -> int:
    """Prunes, killed at every step; what exists is whole after each kill, and one more prune finishes the work."""
    store = Store(str(folder))
    refill(folder)
    doomed = (
        *(f"{parent}/{name}" for parent in ("indexes", "embeddings") for name in names(1, 2, 3)),
        "indexes/20261105",
    )
    expected = {path for path in files_below(folder) if not path.startswith(doomed)}

    def check(step: int) -> None:
        assert current_version(store) == name_of(4), step
        for version in list_versions(store):
            verify_files(store, read_index_manifest(store, version))
        for snapshot in list_snapshots(store):
            assert store.read(f"{snapshot_folder(snapshot)}/part-0.parquet") == CONTENT, step
        prune(store, 1, now(), DAY)
        assert files_below(folder) == expected, (step, files_below(folder) ^ expected)
        assert store.list("indexes") == [name_of(4), "CURRENT"], step
        refill(folder)

    return killed_at_every_step(folder, lambda: prune(store, 1, now(), DAY), check)


def test_a_prune_killed_at_any_step_is_finished_by_the_next(tmp_path):
    assert run_alone("tests.store.test_prune", "kill_prunes", tmp_path) >= 27
