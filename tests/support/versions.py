"""Small versions and snapshots, committed as the real ones are."""

from __future__ import annotations

import datetime
import hashlib
from pathlib import Path
from typing import Any

from store.index import IndexFile, IndexManifest, commit_version, version_folder
from store.location import Store
from store.measured import ExactConfig, Latency, Recall, ShardEntry
from store.publication import publish, read_published
from store.snapshot import Counts, SnapshotManifest, commit, snapshot_folder

CONTENT = bytes(range(256)) * 8
LATENCY = Latency(0.7, 1.4, 1400.0, 9000.0)


def name_of(day: int) -> str:
    """The name of what was made on a day of November 2026."""
    return f"202611{day:02d}T031500Z-{day:06x}"


def day_at(day: int) -> datetime.datetime:
    """The time it was made."""
    return datetime.datetime(2026, 11, day, 3, 15, tzinfo=datetime.timezone.utc)


def version_manifest(day: int, snapshot_day: int, measured: float, content: bytes = CONTENT) -> IndexManifest:
    """A version of one shard; its target is 0.95."""
    digest = hashlib.sha256(content).hexdigest()
    return IndexManifest(
        version=name_of(day),
        created_at=day_at(day).isoformat(),
        snapshot=name_of(snapshot_day),
        encoder={"backbone": "ResNet50"},
        vectors=1234,
        shards=(ShardEntry("shard-00000", 1234),),
        config=ExactConfig(),
        recall=Recall(10, 0.95, measured, 1000),
        latency=LATENCY,
        memory_bytes=0,
        files=(IndexFile("shard-00000/vectors.npy", len(content), digest),),
        timing={},
        versions={},
    )


def write_files(store: Store, manifest: IndexManifest, content: bytes = CONTENT) -> None:
    """What the manifest lists."""
    for file in manifest.files:
        with store.create(f"{version_folder(manifest.version)}/{file.path}") as stream:
            stream.write(content)


def add_version(store: Store, day: int, snapshot_day: int | None = None, measured: float = 0.97) -> str:
    """Writes and commits a version; does not publish it."""
    manifest = version_manifest(day, snapshot_day or day, measured)
    write_files(store, manifest)
    commit_version(store, manifest)
    return manifest.version


def publish_now(store: Store, version: str, by: str = "index") -> None:
    """Publishes a version over whatever is published at this moment."""
    publish(store, version, over=read_published(store), by=by)


def add_snapshot(store: Store, day: int) -> str:
    """Commits a snapshot without rows, beside a file that no manifest lists."""
    name = name_of(day)
    with store.create(f"{snapshot_folder(name)}/part-0.parquet") as stream:
        stream.write(CONTENT)
    empty: dict[str, Any] = {"encoder": {}, "rejected_by_reason": {}, "files": (), "timing": {}, "versions": {}}
    commit(
        store, SnapshotManifest(name, day_at(day).isoformat(), "catalog.csv", None, counts=Counts(0, 0, 0, 0), **empty)
    )
    return name


def files_below(folder: Path) -> set[str]:
    """Everything that is a file, relative to `folder`."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def verify_files(store: Store, manifest: IndexManifest) -> None:
    """Asserts that every file of a version is as its manifest has it; hashed without the code under test."""
    for file in manifest.files:
        data = store.read(f"{version_folder(manifest.version)}/{file.path}")
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file.bytes, file.sha256), file.path
