"""ShardTasks: rows whose pictures must be looked at become shards, the unit of work that ends as one Parquet file."""

from __future__ import annotations

import hashlib

import apache_beam as beam

from transforms.tasks import Task

MAX_SHARD_ROWS = 8192
"""64 MiB of 2,048-d float32, some 40 MiB on disk; also what is done again when a worker dies."""

MIN_SHARD_ROWS = 512
"""Small enough to share a small catalog among workers, large enough to keep files few."""

SHARDS_WANTED = 64


def shard_rows(rows: int) -> int:
    """How many of `rows` a shard holds, about: a 64th, but 512 to 8,192."""
    return min(MAX_SHARD_ROWS, max(MIN_SHARD_ROWS, rows // SHARDS_WANTED))


def count_shards(rows: int) -> int:
    """How many shards `rows` are cut into."""
    return max(1, -(-rows // shard_rows(rows)))


def shard_of(key: str, shards: int) -> int:
    """The shard that a key belongs to, in [0, shards): equal keys meet, and the same key always lands alike."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") % shards


class ShardTasks(beam.PTransform):
    """Groups tasks by a hash of their image_uri: rows that share a picture meet. URIs cross it, pictures never do.

    Input: PCollection[Task], and their number as a singleton side input.
    Output: PCollection[tuple[int, Iterable[Task]]], the shard's number and its tasks in no order.
    """

    def __init__(self, task_count: beam.pvalue.AsSingleton) -> None:
        super().__init__()
        self._task_count = task_count

    def expand(self, tasks: beam.PCollection[Task]) -> beam.PCollection[tuple[int, list[Task]]]:
        """Keys each task by the shard of its URI, and groups the tasks of a shard."""
        return (
            tasks
            | "AssignShard" >> beam.Map(_assign, task_count=self._task_count).with_output_types(tuple[int, Task])
            | "GroupShard" >> beam.GroupByKey()
        )


def _assign(task: Task, task_count: int) -> tuple[int, Task]:
    return shard_of(task.row.image_uri, count_shards(task_count)), task
