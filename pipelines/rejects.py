"""The rejected rows of a snapshot: behind `shelfmark rejects`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from pipelines.requests import Uri
from pipelines.results import Lines, Result
from store.errors import UserError
from store.location import Store
from store.parts import open_part
from store.ranges import POSITIVE, check_ranges
from store.schema import REJECTED_SCHEMA
from store.snapshot import REFUSED, REJECTED, SNAPSHOT_NAME, SnapshotManifest, read_manifest, snapshot_folder


@dataclasses.dataclass(frozen=True)
class RejectsRequest:
    """Which rejected rows to list.

    Attributes:
        store: Where the snapshots lie.
        snapshot: Its name; None for the newest, be it one that a gate refused.
        reason: Only rows rejected for this `store.rejects.Reason`; None for all.
        limit: Rows to list at most.
    """

    store: Uri
    snapshot: str | None = dataclasses.field(default=None, kw_only=True)
    reason: str | None = dataclasses.field(default=None, kw_only=True)
    limit: int = dataclasses.field(default=100, kw_only=True)

    def __post_init__(self) -> None:
        """Refuses numbers that make no sense."""
        check_ranges(self, limit=POSITIVE)


@dataclasses.dataclass(frozen=True)
class Rejects(Result):
    """Rejected rows of a snapshot.

    Attributes:
        snapshot: Its name.
        count: Rejected rows that there are, of the reason that was asked for.
        rows: The first of them: image_id, item_id, image_uri, stage, reason, detail.
    """

    snapshot: str
    count: int
    rows: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """All of it."""
        return {"snapshot": self.snapshot, "rejected": self.count, "rows": self.rows}

    def summary(self) -> Lines:
        """A line to each row."""
        return [(str(row["reason"]), f"{row['image_id']}  {row['image_uri']}  {row['detail']}") for row in self.rows]


def list_rejects(request: RejectsRequest) -> Rejects:
    """The rejected rows of a snapshot.

    Raises:
        UserError: There is no such snapshot.
        StoreError: It cannot be read.
    """
    store = Store(os.fspath(request.store))
    manifest = _manifest(store, request.snapshot)
    rows: list[dict[str, Any]] = []
    for table in _tables(store, manifest):
        found = table.to_pylist()
        rows += [row for row in found if request.reason in (None, row["reason"])][: request.limit - len(rows)]
        if len(rows) == request.limit:
            break
    counts = manifest.rejected_by_reason
    count = sum(counts.values()) if request.reason is None else counts.get(request.reason, 0)
    return Rejects(manifest.snapshot, count, rows)


def _tables(store: Store, manifest: SnapshotManifest) -> Iterator[pa.Table]:
    folder = snapshot_folder(manifest.snapshot)
    names = [file.path for file in manifest.files]
    if not names:  # one that a gate refused lists none
        names = store.list(folder)
    for name in names:
        if name.startswith(REJECTED):
            with open_part(store, folder, name) as parquet:
                yield parquet.read(columns=REJECTED_SCHEMA.names, use_threads=False)


def _manifest(store: Store, snapshot: str | None) -> SnapshotManifest:
    names = [name for name in store.list("embeddings") if SNAPSHOT_NAME.fullmatch(name)] if snapshot is None else []
    for name in [snapshot] if snapshot is not None else reversed(names):
        refused = f"{snapshot_folder(name)}/{REFUSED}"
        if store.size_bytes(refused) is not None:
            return SnapshotManifest.from_json(store.read(refused))
        try:
            return read_manifest(store, name)
        except UserError:
            if snapshot is not None:
                raise  # else a run that is under way or has died: the one before it
    raise UserError(f"no snapshot in {store.uri}; make one with shelfmark embed --store {store.uri}")
