"""CommitSnapshot: the results of all shards become one manifest, or a refusal."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import importlib.metadata
import platform
from collections.abc import Iterator

import apache_beam as beam

from encoder.spec import EncoderSpec
from store.errors import StoreError
from store.location import Store
from store.parts import PartFile
from store.snapshot import REFUSED, Counts, SnapshotManifest, commit, snapshot_folder
from transforms.shard_files import ShardResult

_PACKAGES = ("apache-beam", "tensorflow", "tensorflow-io", "pyarrow", "numpy", "scann", "shelfmark")


@dataclasses.dataclass(frozen=True, slots=True)
class SnapshotRequest:
    """What the launcher knows of a snapshot before it is made.

    Attributes:
        snapshot: Its name.
        catalog: The catalog's URI as given.
        started_at: ISO 8601, UTC.
        max_reject_ratio: Above this share of rejected rows nothing is committed.
    """

    snapshot: str
    catalog: str
    started_at: str
    max_reject_ratio: float


class CommitSnapshot(beam.PTransform):
    """Adds up all shards and commits the snapshot as the run's last act.

    Input: PCollection[ShardResult], and as singleton side inputs the number of catalog rows and the EncoderSpec.
    Output: PCollection[str], the snapshot's name when it was committed, nothing when a gate refused it.
    """

    def __init__(
        self,
        store: Store,
        request: SnapshotRequest,
        row_count: beam.pvalue.AsSingleton,
        spec: beam.pvalue.AsSingleton,
    ) -> None:
        super().__init__()
        self._store = store
        self._request = request
        self._row_count = row_count
        self._spec = spec

    def expand(self, results: beam.PCollection[ShardResult]) -> beam.PCollection[str]:
        """Gathers, then commits."""
        return (
            results
            | "GatherResults" >> beam.CombineGlobally(beam.combiners.ToListCombineFn())
            | "Commit"
            >> beam.FlatMap(_commit, self._store, self._request, self._row_count, self._spec).with_output_types(str)
        )


def _commit(
    results: list[ShardResult], store: Store, request: SnapshotRequest, row_count: int, spec: EncoderSpec
) -> Iterator[str]:
    manifest = add_up(results, request, row_count, spec, datetime.datetime.now(datetime.timezone.utc))
    if manifest.counts.reject_ratio > request.max_reject_ratio:
        store.replace(f"{snapshot_folder(request.snapshot)}/{REFUSED}", manifest.to_json())
        return
    commit(store, manifest)
    yield request.snapshot


def add_up(
    results: list[ShardResult], request: SnapshotRequest, row_count: int, spec: EncoderSpec, now: datetime.datetime
) -> SnapshotManifest:
    """The manifest of a run.

    Args:
        results: One for every shard.
        request: What was asked for.
        row_count: Catalog rows as read, counted apart from the shards.
        spec: The encoder of the run.
        now: When the last shard was done.

    Raises:
        StoreError: A shard was made by another encoder.
    """
    strangers = {result.encoder.fingerprint for result in results} - {spec.fingerprint}
    if strangers:
        raise StoreError(f"expected embeddings of encoder {spec.fingerprint}, found {', '.join(sorted(strangers))} too")
    by_reason: collections.Counter[str] = collections.Counter()
    for result in results:
        by_reason.update(result.rejected_by_reason)
    files: list[PartFile] = sorted((file for result in results for file in result.files), key=lambda file: file.path)
    embedded = sum(result.embedded for result in results)
    seconds = (now - datetime.datetime.fromisoformat(request.started_at)).total_seconds()
    return SnapshotManifest(
        snapshot=request.snapshot,
        created_at=now.isoformat(timespec="seconds"),
        catalog=request.catalog,
        previous_snapshot=None,
        encoder=spec.to_manifest(),
        counts=Counts(row_count, embedded, 0, by_reason.total()),
        rejected_by_reason=dict(sorted(by_reason.items())),
        files=tuple(files),
        timing={
            "started_at": request.started_at,
            "seconds": round(seconds, 3),
            "pictures_per_s": round(embedded / seconds, 3) if seconds > 0 else 0.0,
        },
        versions=_versions(),
    )


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue  # a worker without ScaNN can embed
    return found
