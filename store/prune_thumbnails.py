"""Deleting stored thumbnails of pictures that no snapshot has any more."""

from __future__ import annotations

import datetime

import numpy as np
import numpy.typing as npt

from store.errors import StoreError, UserError
from store.location import Store, as_store_error
from store.parts import open_part
from store.snapshot import list_snapshots, read_manifest, snapshot_folder
from store.thumbnails import FOLDER

_COLUMN = "content_sha256"


def prune_thumbnails(store: Store, now: datetime.datetime, quiet_for: datetime.timedelta) -> int:
    """Deletes thumbnails that no snapshot refers to and that are old enough not to be a running run's.

    Nothing is deleted while a snapshot is being written, or where one cannot be read: what it refers to is not known.
    Holds 8 bytes for each row of the remaining snapshots; pictures are told apart by a quarter of their digest,
    so that once in a great many a thumbnail stays that nobody needs.

    Args:
        store: Where.
        now: The present, UTC.
        quiet_for: How old a thumbnail must be.

    Returns:
        How many were deleted.

    Raises:
        StoreError: A file cannot be deleted.
    """
    folders = store.list(FOLDER)
    snapshots = list_snapshots(store) if folders else []
    if not folders or set(store.list("embeddings")) - set(snapshots):
        return 0
    try:
        needed = np.unique(np.concatenate([np.empty(0, np.uint64), *(_digests(store, name) for name in snapshots)]))
    except (StoreError, UserError):
        return 0
    deleted = 0
    for folder in folders:
        names = [name for name in store.list(f"{FOLDER}/{folder}") if not np.isin(_start_of(name), needed)]
        for path in (f"{FOLDER}/{folder}/{name}" for name in names):
            changed = store.newest_change(path)
            if changed is not None and now - changed > quiet_for:
                store.remove(path)
                deleted += 1
    return deleted


def _digests(store: Store, snapshot: str) -> npt.NDArray[np.uint64]:
    arrays = []
    for part in read_manifest(store, snapshot).parts:
        folder = snapshot_folder(snapshot)
        full = store.full_path(f"{folder}/{part.path}")
        with as_store_error("read", full), open_part(store, folder, part.path) as parquet:
            for batch in parquet.iter_batches(columns=[_COLUMN], use_threads=False):
                starts = [int(digest[:16], 16) for digest in batch[_COLUMN].to_pylist()]
                arrays.append(np.array(starts, np.uint64))
    return np.concatenate([np.empty(0, np.uint64), *arrays])


def _start_of(name: str) -> np.uint64:
    """What `_digests` has of the picture; 0 for what is no thumbnail, such as a file that was never finished."""
    try:
        return np.uint64(int(name[:16], 16)) if name.endswith(".jpg") else np.uint64(0)
    except ValueError:
        return np.uint64(0)
