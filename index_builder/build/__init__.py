"""From a snapshot to a version: projected, tuned, measured, compared with the one before, published."""

from __future__ import annotations

from index_builder.build.builder import ThumbnailsOf, build_index, build_version
from index_builder.build.check import check_index
from index_builder.build.drift import Drift, measure_drift
from index_builder.build.request import BuildRequest, IndexOptions
from index_builder.build.shard import ShardTask, build_shard
from index_builder.build.snapshot_rows import SnapshotRows
from index_builder.build.tree_version import RunShards

__all__ = [
    "BuildRequest",
    "Drift",
    "IndexOptions",
    "RunShards",
    "ShardTask",
    "SnapshotRows",
    "ThumbnailsOf",
    "build_index",
    "build_shard",
    "build_version",
    "check_index",
    "measure_drift",
]
