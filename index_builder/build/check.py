"""Repeating a version's measurement from what is published, as anyone may: files, digests, truth, recall."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pyarrow.parquet as pq

from index_builder.build.exact_neighbours import TIES, ExactSearch, Queries, recall
from index_builder.build.measurement import RECALL_FILE
from index_builder.build.snapshot_rows import SnapshotRows
from index_builder.search.searcher import Searcher
from store.errors import GateRefused, UserError
from store.index import version_folder
from store.inner_paths import locate
from store.location import Store
from store.publication import current_version
from store.snapshot import read_manifest

TOLERANCE = 0.01


@dataclasses.dataclass(frozen=True, slots=True)
class Checked:
    """What a check found.

    Attributes:
        version: The version checked.
        queries: How many rows were looked for.
        stated: recall@k in the manifest.
        measured: recall@k now.
        target: recall@k promised.
    """

    version: str
    queries: int
    stated: float
    measured: float
    target: float

    def to_dict(self) -> dict[str, Any]:
        """For --format json."""
        return dataclasses.asdict(self)


def check_index(store: Store, version: str | None, say: Callable[[str], None] = lambda _: None) -> Checked:
    """Compares every digest, searches the whole snapshot exactly for the manifest's queries, and measures recall anew.

    Args:
        store: Holds the version and its snapshot.
        version: Its name; None for the published one.
        say: Told what is going on.

    Raises:
        UserError: Nothing is published, or the snapshot is gone.
        StoreError: A file is missing or changed.
        GateRefused: Recall is not what the manifest says, or under its target.
    """
    name = version or current_version(store)
    if name is None:
        raise UserError(f"no index is published in {store.uri}")
    say(f"comparing digests of {name}")
    searcher = Searcher.open(store.uri, name, verify=True)
    manifest = searcher.manifest
    snapshot = SnapshotRows(store, read_manifest(store, manifest.snapshot))
    with store.open(locate(store, version_folder(name), RECALL_FILE)) as file:
        rows = pq.read_table(file)["query_row"].to_numpy()
    queries = Queries(rows, snapshot.vectors(rows))
    k = manifest.recall.k
    say(f"searching {snapshot.rows:,} rows exactly for {len(rows):,} queries")
    exact = ExactSearch(queries, k + TIES)
    for batch in snapshot.batches(ids=False):
        exact.show(batch.start, batch.embeddings)
    found = searcher.search(queries.vectors, k + 1).without(rows, k).rows
    measured = recall(found, exact.best(), k)
    checked = Checked(name, len(rows), manifest.recall.measured, measured, manifest.recall.target)
    if abs(checked.stated - measured) > TOLERANCE:
        raise GateRefused(f"version {name}: expected recall@{k} {checked.stated:.4f}, found {measured:.4f}")
    if measured < checked.target:
        raise GateRefused(f"version {name}: recall@{k} {measured:.4f} is under the target {checked.target}")
    return checked
