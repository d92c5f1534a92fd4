"""Commit, publish, prune and setting aside on a disk that loses or reorders whatever was not synced."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from index_builder.search.version_files import describe_files, local_folder
from store.damage import set_aside
from store.index import IndexManifest, commit_version, list_versions, read_index_manifest, version_folder
from store.location import Store
from store.parts import PartWriter, open_part
from store.prune import prune
from store.publication import publish, read_current, read_published
from store.schema import embedding_schema
from store.snapshot import Counts, SnapshotManifest, commit, list_snapshots, read_manifest, snapshot_folder
from tests.store.test_prune import DAY, now
from tests.support.power_cut import Recorder, crashes, lay
from tests.support.versions import CONTENT, add_version, day_at, name_of, publish_now, verify_files, version_manifest


def commit_snapshot(store: Store, day: int, rows: int = 3) -> str:
    """A small real snapshot of two parts, written and committed as a run does."""
    name, parts = name_of(day), []
    os.makedirs(store.full_path(snapshot_folder(name)))  # as a worker did that died before it synced anything
    for number in range(2):
        writer = PartWriter(store, snapshot_folder(name), f"part-{number}.parquet", embedding_schema(4, "f" * 64))
        for row in range(rows):
            writer.add(
                {
                    **dict.fromkeys(("image_id", "item_id", "image_uri", "source_version"), f"{number}-{row}"),
                    **{"content_sha256": "0" * 64, "width": 1, "height": 1, "attributes": [], "embedding_norm": 1.0},
                    "embedding": np.eye(4, dtype=np.float32)[row % 4],
                }
            )
        part = writer.close()
        assert part is not None
        parts.append(part)
    counts = Counts(2 * rows, 2 * rows, 0, 0)
    commit(store, SnapshotManifest(name, day_at(day).isoformat(), "c.csv", None, {}, counts, {}, tuple(parts), {}, {}))
    return name


def build_version(store: Store, day: int) -> str:
    """Files as the builder and its libraries write them, then the manifest, then CURRENT."""
    manifest: IndexManifest = version_manifest(day, day, 1.0)
    with local_folder(store, version_folder(manifest.version)) as folder:
        (folder / "shard-00000").mkdir()
        (folder / "shard-00000" / "vectors.npy").write_bytes(CONTENT)
        assert describe_files(folder, ["shard-00000/vectors.npy"]) == manifest.files
    commit_version(store, manifest)
    publish(store, manifest.version, over=read_published(store), by="index")
    return manifest.version


def check_whole(store: Store) -> None:
    """Whatever exists is whole, and something is published."""
    for name in list_snapshots(store):
        for part in read_manifest(store, name).files:
            with open_part(store, snapshot_folder(name), part.path) as parquet:
                assert parquet.read().num_rows == part.rows
    for version in list_versions(store):
        verify_files(store, read_index_manifest(store, version))
    assert read_current(store) in list_versions(store)


def first_state(store: Store) -> None:
    for day in (1, 2, 3):
        commit_snapshot(store, day)
        add_version(store, day)
    publish_now(store, name_of(3))


def commit_and_publish(store: Store) -> None:
    commit_snapshot(store, 4)
    build_version(store, 4)


def roll_back(store: Store) -> None:
    publish(store, name_of(1), over=read_published(store), by="rollback")


def prune_old(store: Store) -> None:
    assert prune(store, 1, now(), DAY).versions == (name_of(1), name_of(2))


def put_aside(store: Store) -> None:
    set_aside(store, version_folder(name_of(1)))
    set_aside(store, snapshot_folder(name_of(1)))


@pytest.mark.parametrize(
    ("act", "current", "versions", "snapshots"),
    [
        (commit_and_publish, 4, (1, 2, 3, 4), (1, 2, 3, 4)),
        (roll_back, 1, (1, 2, 3), (1, 2, 3)),
        (prune_old, 3, (3,), (3,)),
        (put_aside, 3, (2, 3), (2, 3)),
    ],
)
def test_after_a_power_cut_what_exists_is_whole_and_what_was_done_is_done(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[[Store], None],
    current: int,
    versions: tuple[int, ...],
    snapshots: tuple[int, ...],
) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    store = Store(str(folder))
    first_state(store)
    recording = Recorder(folder).record(lambda: act(store), monkeypatch)
    after, states = Store(str(tmp_path / "after")), 0
    for done, tree in crashes(recording):
        lay(tmp_path / "after", tree)
        check_whole(after)
        if done == len(recording.events):
            assert read_current(after) == name_of(current)
            assert list_versions(after) == [name_of(day) for day in versions]
            assert list_snapshots(after) == [name_of(day) for day in snapshots]
        states += 1
    print(f"{act.__name__}: {len(recording.events)} events, {states} states of the disk, all whole")
    assert states > len(recording.events) > 0


def test_a_disk_that_was_not_told_to_keep_anything_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is one that catches a manifest written before what it lists has been synced."""
    (tmp_path / "store").mkdir()
    store = Store(str(tmp_path / "store"))

    def careless() -> None:
        (tmp_path / "store" / "data").write_bytes(b"12")
        store.replace("manifest", hashlib.sha256(b"12").hexdigest().encode())

    recording = Recorder(tmp_path / "store").record(careless, monkeypatch)
    lost = [
        tree
        for _, tree in crashes(recording)
        if "manifest" in tree and hashlib.sha256(tree.get("data") or b"").hexdigest().encode() != tree["manifest"]
    ]
    assert {tree.get("data") for tree in lost} == {b"", b"1", None}
