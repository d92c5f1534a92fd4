"""The steps of a re-indexing run. Each looks in the store first: what an earlier run finished is not made again."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

from index_builder.build import IndexRequest, ThumbnailsOf, build_version
from index_builder.drift import measure_drift
from pipelines.gates import Gate, overlap_gate, recall_gate, rejects_gate, shrink_gate
from pipelines.versions import LEFTOVERS_AFTER_HOURS
from store.errors import GateRefused
from store.index import IndexManifest, current_version, list_versions, publish, read_index_manifest
from store.location import Store
from store.process import utc_now
from store.prune import prune
from store.runs import RunRecord, estimate_cost, write_run
from store.snapshot import SnapshotManifest


@dataclasses.dataclass(frozen=True, slots=True)
class ReindexRequest:
    """What a run is to make, and what it may publish.

    Attributes:
        index: The index; its snapshot and start_from are the run's to choose.
        max_reject_ratio: Largest share of the catalog's rows that may be rejected.
        max_shrink: Largest share of the published version's rows that may be lost.
        min_overlap: Least share of their neighbours that unchanged pictures must keep.
        keep: Versions to keep.
        cost_per_hour: Of the machine; None where nobody said.
    """

    index: IndexRequest
    max_reject_ratio: float
    max_shrink: float
    min_overlap: float
    keep: int
    cost_per_hour: float | None = None


class ReindexRun:
    """One run. Its record is written after every step."""

    def __init__(
        self,
        store: Store,
        request: ReindexRequest,
        record: RunRecord,
        embed: Callable[[int], SnapshotManifest],
        say: Callable[[str], None],
        thumbnails_of: ThumbnailsOf,
    ) -> None:
        """Takes what the steps need.

        Args:
            store: Everything lies here.
            request: What to make.
            record: What is known of the run before it starts.
            embed: Embeds the catalog; commits a snapshot only if it differs from the newest, and has at least so many
                embeddings.
            say: Told what is going on.
            thumbnails_of: For the index's report, see `build_version`.
        """
        self.record = record
        self._store = store
        self._request = request
        self._embed = embed
        self._say = say
        self._thumbnails_of = thumbnails_of

    def run(self, check_lease: Callable[[], None]) -> None:
        """Brings the store up to date.

        Args:
            check_lease: Raises when the store is no longer this run's to change.

        Raises:
            GateRefused: A gate refused; what is published stays.
            StoreError, UserError: A step failed; what is published stays.
        """
        self.note(published_before=current_version(self._store))
        snapshot = self._embed_step()
        version = self._index_step(snapshot)
        if version.version == self.record.published_before:
            self.note(outcome="nothing_to_do", message="the published version is up to date")
        else:
            self._gate_step(version)
            with self._timed("publish"):
                check_lease()
                publish(self._store, version.version)
            self.note(outcome="published")
        check_lease()
        self._prune_step()

    def note(self, **changes: Any) -> None:
        """Changes the record and writes it.

        Raises:
            StoreError: It cannot be written.
        """
        self.record = dataclasses.replace(self.record, **changes)
        write_run(self._store, self.record)

    @contextlib.contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            seconds = {**self.record.seconds, step: round(time.perf_counter() - began, 3)}
            self.record = dataclasses.replace(self.record, seconds=seconds)

    def _embed_step(self) -> str:
        """The name of the snapshot that says what the catalog says."""
        with self._timed("embed"):
            manifest = self._embed(self._least_rows())
        unchanged = not manifest.files and manifest.previous_snapshot is not None
        snapshot = manifest.previous_snapshot if unchanged else manifest.snapshot
        counts, work = manifest.counts, manifest.work
        self.note(
            snapshot=snapshot,
            counts={**dataclasses.asdict(counts), **work},
            rejected_by_reason=manifest.rejected_by_reason,
            cost=estimate_cost(work["encoded"], self.record.seconds["embed"], self._request.cost_per_hour),
        )
        self._say(
            f"embed: {counts.catalog_rows:,} rows, {counts.reused:,} reused, {counts.embedded:,} embedded, "
            f"{counts.rejected:,} rejected; {'nothing differs from' if unchanged else 'new'} snapshot {snapshot}"
        )
        assert snapshot is not None
        return snapshot

    def _least_rows(self) -> int:
        """Pictures a catalog needs to pass the shrink gate: a truncated one is to cost and to commit nothing."""
        published = self.record.published_before
        if published is None:
            return 0
        vectors = read_index_manifest(self._store, published).vectors
        return math.ceil(round(vectors * (1 - self._request.max_shrink), 6))

    def _index_step(self, snapshot: str) -> IndexManifest:
        """A version of the snapshot at its target, or the best that could be built."""
        version = self._find_version(snapshot)
        if version is None:
            with self._timed("index"):
                request = dataclasses.replace(
                    self._request.index, snapshot=snapshot, start_from=self.record.published_before
                )
                version = build_version(self._store, request, self._say, thumbnails_of=self._thumbnails_of)
        self.note(version=version.version, recall={name: version.recall[name] for name in ("k", "target", "measured")})
        return version

    def _find_version(self, snapshot: str) -> IndexManifest | None:
        """The published version if it will do, else the newest: a run that died or was refused may have left one."""
        names = list_versions(self._store)
        published = self.record.published_before
        for name in sorted(names, key=lambda name: (name == published, name), reverse=True):
            manifest = read_index_manifest(self._store, name)
            if manifest.snapshot == snapshot and _answers(manifest, self._request.index):
                return manifest
        return None

    def _gate_step(self, version: IndexManifest) -> None:
        counts, before = self.record.counts, self.record.published_before
        rejects = rejects_gate(counts["rejected"], counts["catalog_rows"], self._request.max_reject_ratio)
        gates = [rejects, recall_gate(version)]
        if before is not None:
            with self._timed("gates"):
                drift = measure_drift(self._store, before, version.version)
            gates += [shrink_gate(drift, self._request.max_shrink), overlap_gate(drift, self._request.min_overlap)]
        for gate in gates:
            self._say(f"{'pass' if gate.passed else 'REFUSED'}: {gate.says}")
        self.note(gates=tuple(gate.to_dict() for gate in gates))
        _refuse_unless_passed(gates, version.version, before)

    def _prune_step(self) -> None:
        """Also where nothing was published: the run before may have died at this."""
        with self._timed("prune"):
            after = datetime.timedelta(hours=LEFTOVERS_AFTER_HOURS)
            pruned = prune(self._store, self._request.keep, utc_now(), after)
        if pruned.paths:
            self._say(f"pruned {len(pruned.paths)} folders: {pruned.bytes:,} bytes")
        self.note()


def _answers(manifest: IndexManifest, request: IndexRequest) -> bool:
    k = max(1, min(request.k, manifest.vectors - 1))
    asked = (manifest.recall["k"], manifest.recall["target"]) == (k, request.target_recall)
    dimensions = manifest.config.get("dimensions", request.dimensions)  # exact search has none
    return asked and manifest.meets_target and request.dimensions in (None, dimensions)


def _refuse_unless_passed(gates: list[Gate], version: str, published: str | None) -> None:
    refusals = [gate.says for gate in gates if not gate.passed]
    if refusals:
        stays = f"{published} stays published" if published else "nothing is published"
        raise GateRefused(f"version {version} is not published, {stays}: {'; '.join(refusals)}")
