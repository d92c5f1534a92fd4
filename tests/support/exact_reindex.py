"""A re-indexing run of some forty made-up vectors: real lease, real steps, real gates; no Beam, no pictures."""

from __future__ import annotations

import dataclasses

import benchmarks.vectors
from pipelines.reindex_steps import Reindexing
from pipelines.requests import ReindexRequest
from pipelines.run_journal import RunJournal
from store.lease import Clock
from store.location import Store
from store.process import utc_now
from store.runs import RunRecord
from store.snapshot import SnapshotManifest
from tests.support.store_api import acquire_lease, run_under

ROWS, DIMENSIONS = 40, 16
REQUEST = ReindexRequest("catalog.csv", "", k=3, max_reject_ratio=1.0, max_shrink=0.5, min_overlap=0.2, keep=4)


def reindex(store: Store, clock: Clock = utc_now) -> RunRecord:
    """Commits a new snapshot, builds a version of it, publishes it, prunes.

    Raises:
        StoreError, GateRefused: It did not publish, or lost its lease after it had.
    """

    def embed(*, least_rows: int) -> SnapshotManifest:
        del least_rows
        made = benchmarks.vectors.write_snapshot(store, ROWS, seed=1, dimensions=DIMENSIONS)
        return dataclasses.replace(made, work={"encoded": ROWS})

    journal = RunJournal(store, RunRecord.begin("catalog.csv"))
    run = Reindexing(store, REQUEST, journal, embed, lambda line: None, lambda snapshot: lambda uri: None)
    with acquire_lease(store, clock) as lease:
        run_under(run, lease)
    return journal.record
