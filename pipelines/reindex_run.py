"""The steps of a re-indexing run. Each looks in the store first: what an earlier run finished is not made again."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

from index_builder.build import IndexRequest, ThumbnailsOf, build_version, measure_drift
from pipelines.gates import Gate, overlap_gate, recall_gate, rejects_gate, rollback_gate, shrink_gate
from pipelines.versions import LEFTOVERS_AFTER_HOURS
from store.damage import is_rotten, setting_aside, whole_versions
from store.errors import GateRefused, StoreError
from store.index import IndexManifest, read_index_manifest, version_folder
from store.location import Store
from store.process import utc_now
from store.prune import prune
from store.publication import (
    Published,
    last_published,
    missing_current,
    publish,
    read_published,
    refuse_after_rollback,
    standing,
)
from store.runs import RunRecord, estimate_cost, read_runs, write_run
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
        over_rollback: Publish although a person rolled back to what is published now.
    """

    index: IndexRequest
    max_reject_ratio: float
    max_shrink: float
    min_overlap: float
    keep: int
    cost_per_hour: float | None = None
    over_rollback: bool = False


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

    def run(self, check_lease: Callable[[], None], fence: int = 0) -> None:
        """Brings the store up to date.

        Args:
            check_lease: Raises when the store is no longer this run's to change.
            fence: Number of the lease.

        Raises:
            GateRefused: A gate refused; what is published stays.
            StoreError, UserError: A step failed, or somebody else has published since this run began; what is published
                stays.
        """
        over = read_published(self._store)
        whole = self._whole_versions(over)
        self.note(published_before=self._baseline(over, whole))
        self._rollback_step(standing(self._store, over))
        version = self._index_step(self._embed_step(), whole)
        if version is None:  # the snapshot was not what had been written: once more, with what is whole
            version = self._index_step(self._embed_step(), whole)
        if version is None:
            raise StoreError("two snapshots in a row were damaged as soon as they were written; is the disk sound?")
        if over is not None and version.version == over.version:
            self.note(outcome="nothing_to_do", message="the published version is up to date")
        else:
            self._gate_step(version)
            self._publish_step(version.version, over, check_lease, fence)
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

    def _whole_versions(self, over: Published | None) -> dict[str, IndexManifest]:
        """By name; what is damaged is set aside, but for the published version: a reader may have a copy of that."""
        aside = setting_aside(self._store, self._say)

        def on_damage(folder: str, fault: str) -> None:
            if over is not None and folder == version_folder(over.version):
                self._say(f"{folder} is published and damaged: {fault}")
            else:
                aside(folder, fault)

        return {manifest.version: manifest for manifest in whole_versions(self._store, on_damage)}

    def _baseline(self, over: Published | None, whole: dict[str, IndexManifest]) -> str | None:
        """The version that gates compare with: the published one, or where that cannot be, the one before it."""
        if over is not None and over.version in whole:
            return over.version
        last = last_published(self._store)
        if last is not None:
            named = f"CURRENT names {over.version or 'nothing'}, which is no whole version" if over else ""
            self._say(f"{named or missing_current(self._store, last)}; until then gates compare with {last}")
        return last

    def _rollback_step(self, published: Published | None) -> None:
        if published is None or published.rolled_back_from is None:
            return
        gate = rollback_gate(published, self._request.over_rollback)
        self._say(f"{'pass' if gate.passed else 'REFUSED'}: {gate.says}")
        self.note(gates=(gate.verdict,))
        if not gate.passed:
            refuse_after_rollback(published, self._store)

    def _publish_step(self, version: str, over: Published | None, check_lease: Callable[[], None], fence: int) -> None:
        """Publishes; where that is cut short or fails, what CURRENT says is what happened."""
        with self._timed("publish"):
            check_lease()
            try:
                publish(self._store, version, over=over, by="reindex", fence=fence)
            except BaseException:
                if self._is_published(version, over):
                    self.note(outcome="published")
                raise
        self.note(outcome="published")

    def _is_published(self, version: str, over: Published | None) -> bool:
        try:
            found = read_published(self._store)
        except StoreError:
            return False
        return found is not None and found.version == version and found != over

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
        vectors = self._published_vectors()
        return math.ceil(round(vectors * (1 - self._request.max_shrink), 6))

    def _published_vectors(self) -> int:
        """Of the version that gates compare with; where it is gone, as the run that published it counted them."""
        if self.record.published_before is not None:
            return read_index_manifest(self._store, self.record.published_before).vectors
        published = [record for record in read_runs(self._store) if record.outcome == "published"]
        return sum(published[-1].counts.get(name, 0) for name in ("embedded", "reused")) if published else 0

    def _index_step(self, snapshot: str, whole: dict[str, IndexManifest]) -> IndexManifest | None:
        """A version of the snapshot at its target, or the best that could be built; None if the snapshot has rotted."""
        version = self._find_version(snapshot, whole)
        if version is None:
            with self._timed("index"):
                request = dataclasses.replace(
                    self._request.index, snapshot=snapshot, start_from=self.record.published_before
                )
                try:
                    version = build_version(self._store, request, self._say, thumbnails_of=self._thumbnails_of)
                except StoreError:
                    if not is_rotten(self._store, snapshot, setting_aside(self._store, self._say)):
                        raise
                    return None
        self.note(version=version.version, recall=version.recall.result)
        return version

    def _find_version(self, snapshot: str, whole: dict[str, IndexManifest]) -> IndexManifest | None:
        """The published version if it will do, else the newest: a run that died or was refused may have left one."""
        published = self.record.published_before
        for name in sorted(whole, key=lambda name: (name == published, name), reverse=True):
            if whole[name].snapshot == snapshot and _answers(whole[name], self._request.index):
                return whole[name]
        return None

    def _gate_step(self, version: IndexManifest) -> None:
        counts, before = self.record.counts, self.record.published_before
        rejects = rejects_gate(counts["rejected"], counts["catalog_rows"], self._request.max_reject_ratio)
        gates = [rejects, recall_gate(version)]
        asked = self.record.gates
        if before is not None:
            with self._timed("gates"):
                drift = measure_drift(self._store, before, version.version)
            gates += [shrink_gate(drift, self._request.max_shrink), overlap_gate(drift, self._request.min_overlap)]
        for gate in gates:
            self._say(f"{'pass' if gate.passed else 'REFUSED'}: {gate.says}")
        self.note(gates=(*asked, *(gate.verdict for gate in gates)))
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
    asked = (manifest.recall.k, manifest.recall.target) == (k, request.target_recall)
    dimensions = manifest.config.dimensions or request.dimensions  # exact search has none
    return asked and manifest.meets_target and request.dimensions in (None, dimensions)


def _refuse_unless_passed(gates: list[Gate], version: str, published: str | None) -> None:
    refusals = [gate.says for gate in gates if not gate.passed]
    if refusals:
        stays = f"{published} stays published" if published else "nothing is published"
        raise GateRefused(f"version {version} is not published, {stays}: {'; '.join(refusals)}")
