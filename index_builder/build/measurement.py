"""What building a version, of either kind, hands over to be described and published."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from index_builder.build.exact_neighbours import Queries, recall
from index_builder.build.tuning import Truth, answers, latencies_ms
from index_builder.search.engine import Engine
from store.measured import IndexConfig, Latency, Recall, ShardEntry

RECALL_FILE = "recall.parquet"

METHOD = (
    "recall@k of sampled catalog rows, each kept out of its own truth and its own answer, against exact search over "
    "the original float32 embeddings; rows that tie with the k-th true neighbour count as right, and queries with "
    "more such ties than the truth is deep are left out"
)

_BATCH_QUERIES = 256


@dataclasses.dataclass
class Stopwatch:
    """Adds up the seconds spent on each part of a build.

    Attributes:
        seconds: By part.
    """

    seconds: dict[str, float] = dataclasses.field(default_factory=dict)

    def add(self, part: str, seconds: float) -> None:
        """Adds seconds to a part."""
        self.seconds[part] = self.seconds.get(part, 0.0) + seconds

    @contextmanager
    def time(self, part: str) -> Iterator[None]:
        """Adds the time that the block takes to a part."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(part, time.perf_counter() - began)


@dataclasses.dataclass(frozen=True)
class MeasuredIndex:
    """A built and measured index whose files lie in the version's folder.

    Attributes:
        engine: Open on those files.
        config: The manifest's.
        recall: The manifest's.
        latency: The manifest's.
        shards: Name and rows of each.
        memory_bytes: What an open version keeps in memory; codes, ids and attributes are memory-mapped.
    """

    engine: Engine
    config: IndexConfig
    recall: Recall
    latency: Latency
    shards: tuple[ShardEntry, ...]
    memory_bytes: int


def measure(engine: Engine, queries: Queries, truth: Truth, k: int) -> float:
    """recall@k of an engine."""
    return recall(answers(engine, queries, k), truth, k)


def round_down(share: float) -> float:
    """Five decimals, never up: what is just under a target must not pass for it."""
    return math.floor(share * 1e5 + 1e-6) / 1e5


def describe_latency(engine: Engine, queries: Queries, k: int) -> Latency:
    """Milliseconds of queries one at a time, and queries/s one at a time and in batches of 256."""
    latencies_ms(engine, queries, k, 50)  # the first queries load pages
    single = latencies_ms(engine, queries, k, len(queries.rows))
    began, done = time.perf_counter(), 0
    for start in range(0, len(queries.rows), _BATCH_QUERIES):
        done += len(engine.nearest(queries.vectors[start : start + _BATCH_QUERIES], k)[0])
    return Latency(
        single_ms_p50=round(float(np.percentile(single, 50)), 4),
        single_ms_p99=round(float(np.percentile(single, 99)), 4),
        queries_per_s=round(1000 / float(single.mean()), 1),
        batch_queries_per_s=round(done / (time.perf_counter() - began), 1),
    )


def write_truth(folder: Path, queries: Queries, truth: Truth, k: int) -> None:
    """Writes the measured queries' row numbers and their k exact neighbours, for others to repeat the measurement."""
    rows, scores = truth
    table = pa.table(
        {
            "query_row": queries.rows,
            "neighbour_rows": pa.array(list(rows[:, :k]), pa.list_(pa.int64())),
            "neighbour_scores": pa.array(list(scores[:, :k]), pa.list_(pa.float32())),
        }
    )
    pq.write_table(table, folder / RECALL_FILE)
