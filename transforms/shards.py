"""ShardCatalog: rows become shards, the unit of work that ends as one Parquet file."""

from __future__ import annotations

import hashlib

import apache_beam as beam

from transforms.rows import CatalogRow

MAX_SHARD_ROWS = 8192
"""64 MiB of 2,048-d float32, some 40 MiB on disk; also what is done again when a worker dies."""

MIN_SHARD_ROWS = 512
"""Small enough to share a small catalog among workers, large enough to keep files few."""

SHARDS_WANTED = 64


def count_shards(rows: int) -> int:
    """How many shards a catalog of `rows` is cut into: 64 where that leaves 512 to 8,192 rows in each."""
    shard_rows = min(MAX_SHARD_ROWS, max(MIN_SHARD_ROWS, rows // SHARDS_WANTED))
    return max(1, -(-rows // shard_rows))


def shard_of(image_id: str, shards: int) -> int:
    """The shard an image_id belongs to, in [0, shards): equal ids meet, and the same id always lands alike."""
    return int.from_bytes(hashlib.blake2b(image_id.encode(), digest_size=8).digest(), "big") % shards


class ShardCatalog(beam.PTransform):
    """Groups rows by a hash of their image_id, the only shuffle of the journey: URIs cross it, pictures never do.

    Input: PCollection[CatalogRow], and their number as a singleton side input.
    Output: PCollection[tuple[int, Iterable[CatalogRow]]], the shard's number and its rows in no order.
    """

    def __init__(self, row_count: beam.pvalue.AsSingleton) -> None:
        super().__init__()
        self._row_count = row_count

    def expand(self, rows: beam.PCollection[CatalogRow]) -> beam.PCollection[tuple[int, list[CatalogRow]]]:
        """Keys, then groups."""
        return (
            rows
            | "AssignShard" >> beam.Map(_assign, row_count=self._row_count).with_output_types(tuple[int, CatalogRow])
            | "GroupShard" >> beam.GroupByKey()
        )


def _assign(row: CatalogRow, row_count: int) -> tuple[int, CatalogRow]:
    return shard_of(row.image_id, count_shards(row_count)), row
