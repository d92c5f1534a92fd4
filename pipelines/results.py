"""What use cases return: values that know their JSON, and that show themselves in a terminal and in a notebook."""

from __future__ import annotations

import abc
import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from index_builder.pages import table_html
from pipelines.trust import why_not_allowed
from store.index import IndexManifest, version_folder
from store.location import Store
from store.measured import ExactConfig
from store.runs import RunRecord
from store.snapshot import SnapshotManifest, snapshot_folder

Lines = list[tuple[str, str]]
BeamMetrics = dict[str, "int | dict[str, float]"]

_NAME_WIDTH = 14


class Result(abc.ABC):
    """Something that was done, as `print` and a notebook show it."""

    @abc.abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """What `--format json` prints."""

    @abc.abstractmethod
    def summary(self) -> Lines:
        """Names and values, a line each; a name may be empty."""

    def __str__(self) -> str:
        return "\n".join(f"{name:<{_NAME_WIDTH - 1}} {value}" for name, value in self.summary())

    def _repr_html_(self) -> str:
        """For a notebook."""
        return table_html(self.summary())


@dataclasses.dataclass(frozen=True)
class Snapshot(Result):
    """A snapshot that was committed.

    Attributes:
        path: Where it lies.
        manifest: What it says of itself.
        beam_metrics: What the runner reports of the run, see `transforms.beam_metrics`; empty where it reports nothing.
    """

    path: str
    manifest: SnapshotManifest
    beam_metrics: BeamMetrics = dataclasses.field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, store: Store, manifest: SnapshotManifest, beam_metrics: BeamMetrics | None = None) -> Snapshot:
        """A snapshot of a store."""
        return cls(store.full_path(snapshot_folder(manifest.snapshot)), manifest, beam_metrics or {})

    @property
    def name(self) -> str:
        """As `build_index(snapshot=...)` takes it."""
        return self.manifest.snapshot

    def to_dict(self) -> dict[str, Any]:
        """The manifest, where the snapshot lies, and what the runner reports."""
        document = {"path": self.path, **json.loads(self.manifest.to_json())}
        return {**document, "beam_metrics": dict(self.beam_metrics)} if self.beam_metrics else document

    def summary(self) -> Lines:
        """Rows, embedded, rejected by reason, pictures/s, bytes, where the snapshot is."""
        manifest, counts, encoder = self.manifest, self.manifest.counts, self.manifest.encoder
        size_bytes = sum(file.bytes for file in manifest.files)
        speed = f"{manifest.timing['pictures_per_s']:.1f} over {manifest.timing['seconds']:.1f} s, start-up included"
        return [
            ("rows", f"{counts.catalog_rows:,}"),
            ("embedded", f"{counts.embedded:,}"),
            *_reuse(manifest),
            ("rejected", f"{counts.rejected:,}"),
            *_rejects(manifest.rejected_by_reason),
            ("pictures/s", speed),
            ("bytes", f"{size_bytes:,} in {len(manifest.files)} files"),
            ("encoder", f"{encoder['backbone']} {encoder['precision']}, weights {encoder['weights']}"),
            ("snapshot", self.path),
        ]


def _reuse(manifest: SnapshotManifest) -> Lines:
    """What came from the previous snapshot, where there was one."""
    if manifest.previous_snapshot is None:
        return []
    work = manifest.work
    lines = [("reused", f"{manifest.counts.reused:,} of snapshot {manifest.previous_snapshot}")]
    for count, what in (("same_content", "same content"), ("stale", "stale")):
        if work[count]:
            lines.append((f"  {what}", f"{work[count]:,}"))
    return [*lines, ("fetched", f"{work['fetched']:,}"), ("gone", f"{work['gone']:,}")]


def _rejects(by_reason: Mapping[str, int]) -> Lines:
    """A line to each reason, the counts apart from the longest name, and what to do about rows not allowed."""
    width = max((len(reason) for reason in by_reason), default=0)
    pad = max(width, _NAME_WIDTH - 4)
    lines = [("", f"{reason:<{pad}}  {count:,}") for reason, count in by_reason.items()]
    why = why_not_allowed(by_reason)
    return [*lines, ("", why)] if why else lines


@dataclasses.dataclass(frozen=True)
class IndexVersion(Result):
    """A version of the index that was built and published.

    Attributes:
        path: Where it lies.
        manifest: What it says of itself.
    """

    path: str
    manifest: IndexManifest

    @classmethod
    def of(cls, store: Store, manifest: IndexManifest) -> IndexVersion:
        """A version of a store."""
        return cls(store.full_path(version_folder(manifest.version)), manifest)

    @property
    def name(self) -> str:
        """As `open_searcher(version=...)` takes it."""
        return self.manifest.version

    def to_dict(self) -> dict[str, Any]:
        """The manifest, and where the version lies."""
        return {"path": self.path, **json.loads(self.manifest.to_json())}

    def summary(self) -> Lines:
        """Vectors, recall, speed, memory, where the version and its report are."""
        manifest, recall, latency = self.manifest, self.manifest.recall, self.manifest.latency
        target = f"target {recall.target}, {recall.queries or 0:,} queries"
        return [
            ("vectors", f"{manifest.vectors:,}"),
            (f"recall@{recall.k}", f"{recall.measured:.4f} of exact search ({target})"),
            ("one query", f"{latency.single_ms_p50:.3f} ms, 99% within {latency.single_ms_p99:.3f} ms"),
            ("queries/s", f"{latency.queries_per_s:,.0f} alone, {latency.batch_queries_per_s:,.0f} in batches"),
            ("settings", _settings(manifest)),
            ("memory", f"{manifest.memory_bytes / 2**20:,.1f} MiB, the rest memory-mapped"),
            ("bytes", f"{sum(file.bytes for file in manifest.files):,} in {len(manifest.files)} files"),
            ("seconds", f"{manifest.timing['seconds']:.1f}"),
            ("report", f"{self.path}/report.html"),
            ("published", self.path),
        ]


def _settings(manifest: IndexManifest) -> str:
    config = manifest.config
    if isinstance(config, ExactConfig):
        return "every vector compared"
    return (
        f"{config.dimensions} dimensions, {len(manifest.shards)} shards of {config.leaves} leaves, "
        f"{config.leaves_to_search} searched, {config.candidates} ranked again"
    )


@dataclasses.dataclass(frozen=True)
class Reindexed(Result):
    """A re-indexing run that ended well.

    Attributes:
        record: What it did.
    """

    record: RunRecord

    @property
    def outcome(self) -> str:
        """Published or nothing_to_do."""
        return self.record.outcome

    def to_dict(self) -> dict[str, Any]:
        """The run's record."""
        return dict(json.loads(self.record.to_json()))

    def summary(self) -> Lines:
        """Rows, snapshot, recall, seconds by step, what is published."""
        record, counts = self.record, self.record.counts
        recall = record.recall
        before = record.published_before
        return [
            ("rows", f"{counts['catalog_rows']:,}"),
            ("embedded", f"{counts['embedded']:,}"),
            ("reused", f"{counts['reused']:,} ({counts['stale']:,} stale)"),
            ("rejected", f"{counts['rejected']:,}"),
            *_rejects(record.rejected_by_reason),
            ("snapshot", str(record.snapshot)),
            *([(f"recall@{recall.k}", f"{recall.measured:.4f}")] if recall else []),
            ("seconds", ", ".join(f"{step} {spent:.1f}" for step, spent in record.seconds.items())),
            ("published", f"{record.version} (before: {before or 'nothing'})")
            if self.outcome == "published"
            else ("nothing to do", f"{before} is up to date"),
        ]
