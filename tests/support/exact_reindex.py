"""A re-indexing run of some forty made-up vectors: real lease, real steps, real gates; no Beam, no pictures."""

from __future__ import annotations

import dataclasses
import datetime
import os

import benchmarks.vectors
import index_builder.build
from index_builder.build import IndexRequest
from pipelines.reindex_run import ReindexRequest, ReindexRun
from store.lease import Clock
from store.location import Store
from store.process import this_host, utc_now
from store.runs import RunRecord
from store.snapshot import SnapshotManifest
from tests.support.store_api import acquire_lease, run_under

ROWS, DIMENSIONS = 40, 16
REQUEST = ReindexRequest(IndexRequest(k=3), max_reject_ratio=1.0, max_shrink=0.5, min_overlap=0.2, keep=4)


def ordered_name(now: datetime.datetime) -> str:
    """A name as `store.snapshot.new_name` makes it, which sorts by time within a second too."""
    return f"{now.astimezone(datetime.timezone.utc):%Y%m%dT%H%M%SZ}-{now.microsecond:06x}"


def order_names() -> None:
    """Has this process name what it makes by `ordered_name`."""
    for module in (benchmarks.vectors, index_builder.build):
        vars(module)["new_name"] = ordered_name


def reindex(store: Store, clock: Clock = utc_now) -> RunRecord:
    """Commits a new snapshot, builds a version of it, publishes it, prunes.

    Raises:
        StoreError, GateRefused: It did not publish, or lost its lease after it had.
    """

    def embed(least_rows: int) -> SnapshotManifest:
        del least_rows
        made = benchmarks.vectors.write_snapshot(store, ROWS, seed=1, dimensions=DIMENSIONS)
        return dataclasses.replace(made, work={"encoded": ROWS})

    now = utc_now()
    record = RunRecord(
        run=ordered_name(now),
        catalog="catalog.csv",
        started_at=now.isoformat(),
        ended_at=None,
        outcome="running",
        message="",
        snapshot=None,
        version=None,
        published_before=None,
        counts={},
        rejected_by_reason={},
        gates=(),
        recall=None,
        seconds={},
        cost={},
        host=this_host(),
        pid=os.getpid(),
    )
    run = ReindexRun(store, REQUEST, record, embed, lambda line: None, lambda snapshot: lambda uri: None)
    with acquire_lease(store, clock) as lease:
        run_under(run, lease)
    return run.record


def reindex_in_order(store: Store) -> None:
    """For a process of its own."""
    order_names()
    reindex(store)
