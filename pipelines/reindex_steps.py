"""The steps of a re-indexing run, each a function of what those before it returned.

Each looks in the store first: what an earlier run finished is not made again.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable

from index_builder.build import BuildRequest, IndexOptions, ThumbnailsOf, build_version, measure_drift
from pipelines.gates import Gate, least_pictures, overlap_gate, recall_gate, rejects_gate, rollback_gate, shrink_gate
from pipelines.requests import PruneRequest, ReindexRequest
from pipelines.run_journal import RunJournal
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
from store.runs import estimate_cost, read_runs
from store.snapshot import SnapshotManifest


@dataclasses.dataclass(frozen=True)
class Reindexing:
    """What every step of a run works with.

    Attributes:
        store: Everything lies here.
        request: What to make, and what may be published.
        journal: The run's record.
        embed: Embeds the catalog; commits a snapshot only if it differs from the newest, and has at least so many
            embeddings.
        say: Told what is going on.
        thumbnails_of: For the index's report, see `build_version`.
    """

    store: Store
    request: ReindexRequest
    journal: RunJournal
    embed: Callable[..., SnapshotManifest]
    say: Callable[[str], None]
    thumbnails_of: ThumbnailsOf


@dataclasses.dataclass(frozen=True, slots=True)
class Beginning:
    """What a run found in the store.

    Attributes:
        over: What CURRENT says; None where there is none.
        whole: Versions whose files are all there, by name.
        baseline: The version that gates compare with: the published one, or where that cannot be, the one before it.
    """

    over: Published | None
    whole: dict[str, IndexManifest]
    baseline: str | None


def bring_up_to_date(run: Reindexing, check_lease: Callable[[], None], fence: int = 0) -> None:
    """Plans, embeds, builds, asks the gates, publishes, prunes.

    Args:
        run: What to work with; its journal says how far it came.
        check_lease: Raises when the store is no longer this run's to change.
        fence: Number of the lease.

    Raises:
        GateRefused: A gate refused; what is published stays.
        StoreError, UserError: A step failed, or somebody else has published since this run began; what is published
            stays.
    """
    beginning = look_at_store(run)
    asked = ask_rollback_gate(run, beginning)
    version = embed_and_build(run, beginning)
    if beginning.over is not None and version.version == beginning.over.version:
        run.journal.note(outcome="nothing_to_do", message="the published version is up to date")
    else:
        ask_gates(run, beginning, version, asked)
        publish_version(run, beginning, version, check_lease, fence)
    check_lease()
    prune_old(run)


def look_at_store(run: Reindexing) -> Beginning:
    """What is published, which versions are whole, and what the gates will compare with."""
    over = read_published(run.store)
    whole = _whole_versions(run, over)
    baseline = _baseline(run, over, whole)
    run.journal.note(published_before=baseline)
    return Beginning(over, whole, baseline)


def _whole_versions(run: Reindexing, over: Published | None) -> dict[str, IndexManifest]:
    """By name; what is damaged is set aside, but for the published version: a reader may have a copy of that."""
    aside = setting_aside(run.store, run.say)

    def on_damage(folder: str, fault: str) -> None:
        if over is not None and folder == version_folder(over.version):
            run.say(f"{folder} is published and damaged: {fault}")
        else:
            aside(folder, fault)

    return {manifest.version: manifest for manifest in whole_versions(run.store, on_damage)}


def _baseline(run: Reindexing, over: Published | None, whole: dict[str, IndexManifest]) -> str | None:
    if over is not None and over.version in whole:
        return over.version
    last = last_published(run.store)
    if last is not None:
        named = f"CURRENT names {over.version or 'nothing'}, which is no whole version" if over else ""
        run.say(f"{named or missing_current(run.store, last)}; until then gates compare with {last}")
    return last


def ask_rollback_gate(run: Reindexing, beginning: Beginning) -> tuple[Gate, ...]:
    """Whether what a person rolled back to may be published over; before anything is embedded.

    Raises:
        GateRefused: It may not.
    """
    published = standing(run.store, beginning.over)
    if published is None or published.rolled_back_from is None:
        return ()
    gate = rollback_gate(published, run.request.publish)
    _say_verdicts(run, [gate])
    run.journal.note(gates=(gate.verdict,))
    if not gate.passed:
        refuse_after_rollback(published, run.store)
    return (gate,)


def embed_and_build(run: Reindexing, beginning: Beginning) -> IndexManifest:
    """The version of a snapshot that says what the catalog says; once more where the snapshot has rotted meanwhile.

    Raises:
        StoreError: Two snapshots in a row were damaged, or a step failed.
    """
    for _ in range(2):
        version = find_or_build(run, beginning, embed_changes(run, beginning))
        if version is not None:
            return version
    raise StoreError("two snapshots in a row were damaged as soon as they were written; is the disk sound?")


def embed_changes(run: Reindexing, beginning: Beginning) -> str:
    """The name of the snapshot that says what the catalog says: a new one, or the newest where nothing differs."""
    journal = run.journal
    with journal.timed("embed"):
        # A truncated catalog is to cost and to commit nothing.
        least_rows = least_pictures(published_vectors(run.store, beginning.baseline), run.request.max_shrink)
        manifest = run.embed(least_rows=least_rows)
    unchanged = not manifest.files and manifest.previous_snapshot is not None
    snapshot = manifest.previous_snapshot if unchanged else manifest.snapshot
    counts, work = manifest.counts, manifest.work
    journal.note(
        snapshot=snapshot,
        counts={**dataclasses.asdict(counts), **work},
        rejected_by_reason=manifest.rejected_by_reason,
        cost=estimate_cost(work["encoded"], journal.record.seconds["embed"], run.request.cost_per_hour),
    )
    run.say(
        f"embed: {counts.catalog_rows:,} rows, {counts.reused:,} reused, {counts.embedded:,} embedded, "
        f"{counts.rejected:,} rejected; {'nothing differs from' if unchanged else 'new'} snapshot {snapshot}"
    )
    assert snapshot is not None
    return snapshot


def published_vectors(store: Store, baseline: str | None) -> int:
    """Of the version that gates compare with; where it is gone, as the run that published it counted them."""
    if baseline is not None:
        return read_index_manifest(store, baseline).vectors
    published = [record for record in read_runs(store) if record.outcome == "published"]
    return sum(published[-1].counts.get(name, 0) for name in ("embedded", "reused")) if published else 0


def find_or_build(run: Reindexing, beginning: Beginning, snapshot: str) -> IndexManifest | None:
    """A version of the snapshot at its target, or the best that could be built; None if the snapshot has rotted."""
    version = _find_version(run, beginning, snapshot)
    if version is None:
        with run.journal.timed("index"):
            request = BuildRequest.of(run.request, snapshot, beginning.baseline)
            try:
                version = build_version(run.store, request, run.say, thumbnails_of=run.thumbnails_of)
            except StoreError:
                if not is_rotten(run.store, snapshot, setting_aside(run.store, run.say)):
                    raise
                return None
    run.journal.note(version=version.version, recall=version.recall.result)
    return version


def _find_version(run: Reindexing, beginning: Beginning, snapshot: str) -> IndexManifest | None:
    """The published version if it will do, else the newest: a run that died or was refused may have left one."""
    whole = beginning.whole
    for name in sorted(whole, key=lambda name: (name == beginning.baseline, name), reverse=True):
        if whole[name].snapshot == snapshot and _answers(whole[name], run.request):
            return whole[name]
    return None


def _answers(manifest: IndexManifest, request: IndexOptions) -> bool:
    k = max(1, min(request.k, manifest.vectors - 1))
    asked = (manifest.recall.k, manifest.recall.target) == (k, request.target_recall)
    dimensions = manifest.config.dimensions or request.dimensions  # exact search has none
    return asked and manifest.meets_target and request.dimensions in (None, dimensions)


def ask_gates(run: Reindexing, beginning: Beginning, version: IndexManifest, asked: tuple[Gate, ...]) -> None:
    """Whether a version may be published.

    Args:
        run: Its journal gets the verdicts.
        beginning: Names the version to compare with.
        version: The one to publish.
        asked: Gates that have spoken before.

    Raises:
        GateRefused: One refuses.
    """
    request, counts, before = run.request, run.journal.record.counts, beginning.baseline
    gates = [
        rejects_gate(counts["rejected"], counts["catalog_rows"], request.max_reject_ratio),
        recall_gate(version),
    ]
    if before is not None:
        with run.journal.timed("gates"):
            drift = measure_drift(run.store, before, version.version)
        gates += [shrink_gate(drift, request.max_shrink), overlap_gate(drift, request.min_overlap)]
    _say_verdicts(run, gates)
    run.journal.note(gates=tuple(gate.verdict for gate in (*asked, *gates)))
    refusals = [gate.says for gate in gates if not gate.passed]
    if refusals:
        stays = f"{before} stays published" if before else "nothing is published"
        raise GateRefused(f"version {version.version} is not published, {stays}: {'; '.join(refusals)}")


def _say_verdicts(run: Reindexing, gates: list[Gate]) -> None:
    for gate in gates:
        run.say(f"{'pass' if gate.passed else 'REFUSED'}: {gate.says}")


def publish_version(
    run: Reindexing, beginning: Beginning, version: IndexManifest, check_lease: Callable[[], None], fence: int
) -> None:
    """Publishes; where that is cut short or fails, what CURRENT says is what happened."""
    with run.journal.timed("publish"):
        check_lease()
        try:
            publish(run.store, version.version, over=beginning.over, by="reindex", fence=fence)
        except BaseException:
            if _is_published(run.store, version.version, beginning.over):
                run.journal.note(outcome="published")
            raise
    run.journal.note(outcome="published")


def _is_published(store: Store, version: str, over: Published | None) -> bool:
    try:
        found = read_published(store)
    except StoreError:
        return False
    return found is not None and found.version == version and found != over


def prune_old(run: Reindexing) -> None:
    """Deletes what nobody needs, also where nothing was published: the run before may have died at this."""
    with run.journal.timed("prune"):
        after = datetime.timedelta(hours=PruneRequest.leftovers_after_hours)
        pruned = prune(run.store, run.request.keep, utc_now(), after)
    if pruned.paths:
        run.say(f"pruned {len(pruned.paths)} folders: {pruned.bytes:,} bytes")
    run.journal.note()
