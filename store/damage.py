"""Snapshots and versions that are not whole any more: found, told, and set aside, never deleted."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import TypeVar

import pyarrow as pa

from store.errors import DamagedError, StoreError, UserError
from store.index import IndexManifest, check_files, list_versions, read_index_manifest, version_folder
from store.location import Store
from store.parts import ROW_GROUP_ROWS, open_part
from store.snapshot import (
    MANIFEST,
    SnapshotManifest,
    check_snapshot_files,
    list_snapshots,
    read_manifest,
    snapshot_folder,
)

DAMAGED = "manifest.damaged.json"
"""What a manifest is called once its folder was set aside: nobody reads it, and `prune` takes it for a leftover."""

Manifest = TypeVar("Manifest", SnapshotManifest, IndexManifest)

OnDamage = Callable[[str, str], object]
"""Told the folder of what is damaged, relative to the store, and what is wrong with it."""


def whole_snapshots(store: Store, on_damage: OnDamage) -> Iterator[SnapshotManifest]:
    """Manifests of the snapshots whose files are all there, newest first; of what is damaged `on_damage` is told.

    Raises:
        StoreError: The store cannot be read, or a snapshot is of another format.
    """
    return _whole(store, list_snapshots, read_manifest, check_snapshot_files, snapshot_folder, on_damage)


def whole_versions(store: Store, on_damage: OnDamage) -> Iterator[IndexManifest]:
    """Manifests of the versions whose files are all there, newest first; of what is damaged `on_damage` is told.

    Raises:
        StoreError: The store cannot be read, or a version is of another format.
    """
    return _whole(store, list_versions, read_index_manifest, check_files, version_folder, on_damage)


def _whole(
    store: Store,
    list_names: Callable[[Store], list[str]],
    read: Callable[[Store, str], Manifest],
    check: Callable[[Store, Manifest], object],
    folder_of: Callable[[str], str],
    on_damage: OnDamage,
) -> Iterator[Manifest]:
    for name in reversed(list_names(store)):
        try:
            manifest = read(store, name)
            check(store, manifest)
        except UserError:
            continue  # pruned since it was listed
        except DamagedError as error:
            on_damage(folder_of(name), str(error))
            continue
        yield manifest


def is_rotten(store: Store, snapshot: str, on_damage: OnDamage) -> bool:
    """Whether a snapshot's content is not what was written; then `on_damage` is told. Reads all of it.

    Raises:
        StoreError: The store cannot be read.
    """
    try:
        fault = _find_rot(store, read_manifest(store, snapshot))
    except UserError:
        return False  # pruned meanwhile
    if fault:
        on_damage(snapshot_folder(snapshot), fault)
    return bool(fault)


def _find_rot(store: Store, manifest: SnapshotManifest) -> str:
    """What is wrong with the content of a snapshot's files, every page of them compared with its checksum, or ""."""
    for file in manifest.files:
        folder = snapshot_folder(manifest.snapshot)
        path = f"{folder}/{file.path}"
        try:
            with open_part(store, folder, file.path) as parquet:
                rows = sum(batch.num_rows for batch in parquet.iter_batches(ROW_GROUP_ROWS, use_threads=False))
        except DamagedError as error:
            return str(error)
        except (OSError, pa.ArrowException) as error:  # what Parquet says of a page that is not what was written
            if isinstance(error, OSError) and error.errno is not None:
                raise StoreError(f"cannot read {store.full_path(path)}: {error}") from error
            return f"{store.full_path(path)}: {' '.join(str(error).split())}"
        if rows != file.rows:
            return f"{store.full_path(path)}: expected {file.rows} rows, found {rows}"
    return ""


def ignore(folder: str, fault: str) -> None:
    """For readers that have better to do than to tell."""


def setting_aside(store: Store, say: Callable[[str], object]) -> OnDamage:
    """Sets aside what is damaged, and says so in a line."""
    return functools.partial(_set_aside_and_say, store, say)


def _set_aside_and_say(store: Store, say: Callable[[str], object], folder: str, fault: str) -> None:
    set_aside(store, folder)
    say(f"{folder} is damaged and set aside: {fault}")


def set_aside(store: Store, folder: str) -> None:
    """Takes the manifest of a damaged folder out of the way: the snapshot or version does not exist any more.

    Raises:
        StoreError: The store cannot be read or written.
    """
    try:
        manifest = store.read(f"{folder}/{MANIFEST}")
    except FileNotFoundError:
        return  # somebody else did
    store.replace(f"{folder}/{DAMAGED}", manifest)
    store.remove(f"{folder}/{MANIFEST}")
