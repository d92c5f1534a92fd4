"""Building a version for a small catalog: its vectors, every one of which a query is compared with."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from index_builder.build.exact_neighbours import Queries
from index_builder.build.measurement import (
    METHOD,
    MeasuredIndex,
    Stopwatch,
    describe_latency,
    measure,
    round_down,
    write_truth,
)
from index_builder.build.plan import Plan
from index_builder.build.shard import ingest, shard_name
from index_builder.build.snapshot_rows import SnapshotRows
from index_builder.search.engine import VECTORS_FILE, ExactEngine
from store.measured import CurvePoint, ExactConfig, Recall, ShardEntry


def build_exact(
    snapshot: SnapshotRows, plan: Plan, folder: Path, k: int, target: float, seed: int, watch: Stopwatch
) -> MeasuredIndex:
    """Builds and measures a version in `folder`."""
    with watch.time("sample_s"):
        queries = Queries(*snapshot.sample(plan.queries, seed))
    shard = folder / shard_name(0)
    ingested = ingest(snapshot, 0, plan.rows, shard, queries, k, None)
    watch.add("read_s", ingested.read_s)
    watch.add("truth_s", ingested.truth_s)
    truth = ingested.truth_rows, ingested.truth_scores
    engine = ExactEngine(np.load(shard / VECTORS_FILE, mmap_mode="r").view(np.ndarray))
    with watch.time("measure_s"):
        measured = measure(engine, queries, truth, k)
        latency = describe_latency(engine, queries, k)
    write_truth(folder, queries, truth, k)
    point = CurvePoint(measured, latency.single_ms_p50, latency.queries_per_s)
    return MeasuredIndex(
        engine=engine,
        config=ExactConfig(built="anew", plan=dataclasses.asdict(plan)),
        recall=Recall(k, target, round_down(measured), len(queries.rows), METHOD, (point,)),
        latency=latency,
        shards=(ShardEntry(shard_name(0), plan.rows),),
        memory_bytes=(shard / VECTORS_FILE).stat().st_size,
    )
