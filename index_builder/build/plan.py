"""How an index over so many vectors is to be built, decided before anything is read: a pure function."""

from __future__ import annotations

import dataclasses
import itertools
import math

from index_builder.search.tree import LEAST_ROWS_PER_LEAF, hash_blocks
from store.errors import UserError

EXACT_BYTES = 64 << 20
"""Up to this many bytes of float32 vectors every query is compared with every vector: a few milliseconds, recall 1."""

MAX_SHARD_ROWS = 1 << 18
"""More shards than memory asks for, so that processes and workers have something to share. A shard costs a query about
50 microseconds."""

DIMENSIONS = (64, 96, 128, 192, 256)
"""Projection dimensions that tuning chooses from."""

MOST_DIMENSIONS = 512
MOST_BLOCKS = 256
"""Of asymmetric hashing; ScaNN's fast path takes no more."""

SAMPLE_ROWS = 20_480
TRAINING_ROWS = 50_000
QUERIES = 1_000

_PROCESS_BYTES = 600 << 20
_BATCH_ROWS = 2_048
_ROW_TABLE_BYTES = 400


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What will be built.

    Attributes:
        kind: "exact" compares with every vector; "scann" projects, searches a tree, and ranks again.
        rows: Vectors in all.
        embedding_dim: D.
        shard_rows: Rows of the largest shard.
        shards: Number of shards.
        workers: Shards built at once, each in a process of its own.
        dimensions: Projection dimensions to try, rising.
        leaves: Leaves of a shard's tree.
        training_rows: Rows that k-means and quantisation are trained on, per shard.
        blocks: Blocks of asymmetric hashing at the largest dimension; at most 256.
        queries: Sampled rows that recall is measured with, and as many again that settings are chosen with.
        memory_bytes: Estimated peak memory of all processes together.
        disk_bytes: Estimated size on disk.
    """

    kind: str
    rows: int
    embedding_dim: int
    shard_rows: int
    shards: int
    workers: int
    dimensions: tuple[int, ...]
    leaves: int
    training_rows: int
    blocks: int
    queries: int
    memory_bytes: int
    disk_bytes: int

    def spans(self) -> list[tuple[int, int]]:
        """(start, stop) row numbers of each shard; together they are all rows, and none is empty."""
        edges = [self.rows * shard // self.shards for shard in range(self.shards + 1)]
        return list(itertools.pairwise(edges))


def plan_index(
    rows: int,
    embedding_dim: int,
    memory_bytes: int,
    target_recall: float,
    *,
    cpus: int = 1,
    dimensions: int | None = None,
) -> Plan:
    """Plans an index.

    Args:
        rows: Vectors to index, from 1.
        embedding_dim: D.
        memory_bytes: What all processes together may use.
        target_recall: Recall@k to reach, above 0 and at most 1; 1 can only be promised by exact search.
        cpus: Processes worth starting.
        dimensions: A projection dimension to use instead of those that tuning would try.

    Raises:
        UserError: Memory does not suffice even for the smallest shards; or the dimension does not fit.
    """
    tried = _dimensions(embedding_dim, dimensions)
    # The threshold is a size and not a row count, as the time of an exact search is set by the bytes it reads.
    if rows * embedding_dim * 4 <= EXACT_BYTES or target_recall >= 1 or not tried:
        return _plan_exact(rows, embedding_dim, memory_bytes)
    return _plan_trees(rows, embedding_dim, memory_bytes, cpus, tried)


def _plan_exact(rows: int, embedding_dim: int, memory_bytes: int) -> Plan:
    vector_bytes = rows * embedding_dim * 4
    need = _PROCESS_BYTES + _sample_bytes(rows, embedding_dim) + vector_bytes
    _check_memory(need, memory_bytes)
    return Plan("exact", rows, embedding_dim, rows, 1, 1, (), 0, 0, 0, min(rows, QUERIES), need, vector_bytes)


def _plan_trees(rows: int, embedding_dim: int, memory_bytes: int, cpus: int, tried: tuple[int, ...]) -> Plan:
    queries = min(rows, QUERIES)
    coordinator = _PROCESS_BYTES + _sample_bytes(rows, embedding_dim)
    per_row = _shard_row_bytes(tried[-1])
    fixed = _PROCESS_BYTES + _batch_bytes(embedding_dim, queries)
    room = memory_bytes - coordinator - fixed
    most_rows = room // per_row if room > 0 else 0
    if most_rows < min(rows, 4 * _BATCH_ROWS):
        _check_memory(coordinator + fixed + per_row * min(rows, 4 * _BATCH_ROWS), memory_bytes)
    shards = math.ceil(rows / min(most_rows, MAX_SHARD_ROWS))
    shard_rows = math.ceil(rows / shards)
    each = fixed + shard_rows * per_row
    workers = max(1, min(cpus, shards, (memory_bytes - coordinator) // each))
    leaves = max(8, min(shard_rows // LEAST_ROWS_PER_LEAF, round(0.8 * math.sqrt(shard_rows))))
    return Plan(
        kind="scann",
        rows=rows,
        embedding_dim=embedding_dim,
        shard_rows=shard_rows,
        shards=shards,
        workers=workers,
        dimensions=tried,
        leaves=leaves,
        training_rows=min(rows // shards, TRAINING_ROWS),
        blocks=sum(count for count, _ in hash_blocks(tried[-1])),
        queries=queries,
        memory_bytes=coordinator + workers * each,
        disk_bytes=rows * (embedding_dim + 4 + 2 * tried[-1] + _ROW_TABLE_BYTES // 2),
    )


def _dimensions(embedding_dim: int, asked: int | None) -> tuple[int, ...]:
    if asked is None:
        return tuple(dimension for dimension in DIMENSIONS if dimension <= embedding_dim)
    most = min(embedding_dim, MOST_DIMENSIONS)
    if not 2 <= asked <= most:
        raise UserError(f"--dimensions: expected 2 to {most} for {embedding_dim}-d embeddings, found {asked}")
    return (asked,)


def _sample_bytes(rows: int, embedding_dim: int) -> int:
    return min(rows, SAMPLE_ROWS) * embedding_dim * 4 * 2 + 5 * embedding_dim**2 * 8


def _shard_row_bytes(dimension: int) -> int:
    """Projected rows once as read and once inside ScaNN, its int8 copy, hashes and spill; ids and attributes."""
    return dimension * (4 + 4 + 1 + 1) + _ROW_TABLE_BYTES


def _batch_bytes(embedding_dim: int, queries: int) -> int:
    return 4 * _BATCH_ROWS * embedding_dim * 4 + 2 * queries * (embedding_dim + 3 * _BATCH_ROWS) * 4


def _check_memory(need_bytes: int, limit_bytes: int) -> None:
    if need_bytes > limit_bytes:
        raise UserError(
            f"--memory_limit: expected at least {math.ceil(need_bytes / 2**20):,} MiB for this snapshot, found "
            f"{limit_bytes // 2**20:,} MiB; use a larger machine or fewer dimensions"
        )


def describe_plan(plan: Plan) -> str:
    """The plan in one line."""
    size = f"{plan.rows:,} vectors of {plan.embedding_dim} dimensions"
    memory = f"at most {plan.memory_bytes / 2**20:,.0f} MiB of memory, {plan.disk_bytes / 2**20:,.0f} MiB on disk"
    if plan.kind == "exact":
        return f"plan: {size}, compared one by one (few enough for exact search); {memory}"
    tried = "/".join(str(dimension) for dimension in plan.dimensions)
    return (
        f"plan: {size}; {plan.shards} shard{'s' * (plan.shards > 1)} of {plan.leaves} leaves, {plan.workers} at once; "
        f"{tried} projected dimensions; {memory}"
    )
