"""CommitSnapshot: the tallies of all that was done become one manifest, or a refusal."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import importlib.metadata
import platform
from collections.abc import Iterator

import apache_beam as beam

from encoder.spec import EncoderSpec
from store.errors import StoreError
from store.location import Store
from store.process import utc_now
from store.snapshot import REFUSED, UNCHANGED, Counts, SnapshotManifest, commit, snapshot_folder
from transforms.previous import PreviousSnapshot
from transforms.run_counts import RunCounts, add_up, reject_digest

_PACKAGES = ("apache-beam", "tensorflow", "tensorflow-io", "pyarrow", "numpy", "scann", "shelfmark")


@dataclasses.dataclass(frozen=True, slots=True)
class SnapshotRequest:
    """What the launcher knows of a snapshot before it is made.

    Attributes:
        snapshot: Its name.
        catalog: The catalog's URI as given.
        started_at: ISO 8601, UTC.
        max_reject_ratio: Above this share of rejected rows nothing is committed.
        only_if_changed: Commit nothing where it would say what the previous snapshot says.
        least_rows: Commit nothing with fewer embeddings than this.
    """

    snapshot: str
    catalog: str
    started_at: str
    max_reject_ratio: float
    only_if_changed: bool = False
    least_rows: int = 0


class SumTallies(beam.PTransform):
    """Adds up what pieces of the run have done.

    Input: PCollection[RunCounts].
    Output: PCollection[RunCounts] with one element.
    """

    def expand(self, tallies: beam.PCollection[RunCounts]) -> beam.PCollection[RunCounts]:
        """Gathers, then adds once: a sum of sums would copy the list of files again and again."""
        return (
            tallies
            | "Gather" >> beam.CombineGlobally(beam.combiners.ToListCombineFn())
            | "AddUp" >> beam.Map(add_up).with_output_types(RunCounts)
        )


class Verdict(str, enum.Enum):
    """What becomes of a run's snapshot, settled before anything is copied."""

    COMMIT = "commit"
    UNCHANGED = "unchanged"
    REFUSED = "refused"


def judge(done: RunCounts, request: SnapshotRequest, previous: PreviousSnapshot | None) -> Verdict:
    """Whether a snapshot is committed.

    Args:
        done: All but the copies.
        request: With the gates.
        previous: The snapshot that embeddings are taken from, if any.
    """
    too_many = done.rows and done.rejected / done.rows > request.max_reject_ratio
    if too_many or done.embedded + done.reused < request.least_rows:
        return Verdict.REFUSED
    if previous is not None and request.only_if_changed and not done.changes(_rejects_digest(previous)):
        return Verdict.UNCHANGED
    return Verdict.COMMIT


def _rejects_digest(previous: PreviousSnapshot) -> int:
    return add_up(RunCounts(rejects_digest=reject_digest(*row)) for row in previous.rejected_rows()).rejects_digest


class CommitSnapshot(beam.PTransform):
    """Commits the snapshot as the run's last act.

    Input: PCollection[RunCounts] with one element, the copies'; as singleton side inputs the sum of all else, the
    number of catalog rows, the EncoderSpec, and the Verdict.
    Output: PCollection[str], the snapshot's name when it was committed, nothing when a gate refused it.
    """

    def __init__(
        self,
        store: Store,
        request: SnapshotRequest,
        previous: PreviousSnapshot | None,
        done: beam.pvalue.AsSingleton,
        row_count: beam.pvalue.AsSingleton,
        spec: beam.pvalue.AsSingleton,
        verdict: beam.pvalue.AsSingleton,
    ) -> None:
        super().__init__()
        self._fixed = (store, request, previous.name if previous else None)
        self._sides = (done, row_count, spec, verdict)

    def expand(self, copies: beam.PCollection[RunCounts]) -> beam.PCollection[str]:
        """Writes the manifest, or what a refused run would have counted, once the copies are done."""
        return copies | "Commit" >> beam.FlatMap(_commit, *self._fixed, *self._sides).with_output_types(str)


def _commit(
    copies: RunCounts,
    store: Store,
    request: SnapshotRequest,
    previous: str | None,
    done: RunCounts,
    row_count: int,
    spec: EncoderSpec,
    verdict: Verdict,
) -> Iterator[str]:
    now = utc_now()
    folder = snapshot_folder(request.snapshot)
    if verdict is not Verdict.COMMIT:
        left = {Verdict.REFUSED: REFUSED, Verdict.UNCHANGED: UNCHANGED}[verdict]
        counted = describe_run(dataclasses.replace(done, files=()), request, previous, row_count, spec, now)
        store.replace(f"{folder}/{left}", counted.to_json())
        return
    if copies.copied != done.reused:
        raise StoreError(f"expected {done.reused} rows to be copied from {previous}, found {copies.copied}")
    whole = dataclasses.replace(done, files=add_up([done, copies]).files)
    commit(store, describe_run(whole, request, previous, row_count, spec, now))
    yield request.snapshot


def describe_run(
    done: RunCounts,
    request: SnapshotRequest,
    previous: str | None,
    row_count: int,
    spec: EncoderSpec,
    now: datetime.datetime,
) -> SnapshotManifest:
    """The manifest of a run.

    Args:
        done: The sum of all tallies.
        request: What was asked for.
        previous: Name of the snapshot that embeddings were taken from.
        row_count: Catalog rows as read, counted apart from the tallies.
        spec: The encoder of the run.
        now: When all was done.

    Raises:
        StoreError: A shard was made by another encoder.
    """
    strangers = set(done.fingerprints) - {spec.fingerprint}
    if strangers:
        raise StoreError(f"expected embeddings of encoder {spec.fingerprint}, found {', '.join(sorted(strangers))} too")
    return SnapshotManifest(
        snapshot=request.snapshot,
        created_at=now.isoformat(timespec="seconds"),
        catalog=request.catalog,
        previous_snapshot=previous,
        encoder=spec.to_manifest(),
        counts=Counts(row_count, done.embedded, done.reused, done.rejected),
        rejected_by_reason=dict(done.rejected_by_reason),
        files=done.files,
        timing=_describe_timing(request.started_at, now, done.embedded),
        versions=_versions(),
        work=dict(done.work),
    )


def _describe_timing(started_at: str, now: datetime.datetime, embedded: int) -> dict[str, str | float]:
    seconds = (now - datetime.datetime.fromisoformat(started_at)).total_seconds()
    return {
        "started_at": started_at,
        "seconds": round(seconds, 3),
        "pictures_per_s": round(embedded / seconds, 3) if seconds > 0 else 0.0,
    }


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue  # a worker without ScaNN can embed
    return found
