"""`shelfmark reindex --dry_run`: what a run would do, told without fetching, embedding or writing anything."""

from __future__ import annotations

import collections
import dataclasses
import os
import tempfile
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pvalue import AsSingleton

from fetch.fetcher import is_same_file, resolve_uri
from fetch.policy import FetchPolicy
from pipelines.beam_flags import is_local, parse_beam_flags
from pipelines.embed import started_now
from pipelines.embed_pipeline import root_cause
from pipelines.gates import least_pictures, rejects_gate, rollback_gate
from pipelines.log import LOG
from pipelines.open_catalog import open_named_catalog
from pipelines.prepare_encoder import choose_encoder
from pipelines.reindex_steps import published_vectors
from pipelines.requests import ReindexRequest
from pipelines.results import Lines, Result
from store.errors import StoreError, UserError
from store.index import read_index_manifest, version_exists
from store.location import Store
from store.publication import last_published, read_published, standing
from store.rejects import Reason, Rejected
from transforms.catalog import Catalog, ReadCatalog
from transforms.compare import CompareRows, differs
from transforms.previous import PreviousSnapshot
from transforms.progress import ProgressFile
from transforms.run_counts import RunCounts
from transforms.tasks import Reuse, Task

_FATES = ("unchanged", "relabelled", "asked", "changed", "new", "rejected", "refused", "gone")


@dataclasses.dataclass(frozen=True)
class ReindexPlan(Result):
    """What a run would find.

    Attributes:
        catalog_rows: In the catalog.
        previous_snapshot: Whose embeddings would be used again; None where all are made anew.
        why_anew: Why there is none where one would be expected.
        rows: unchanged; relabelled (the picture as it was, other attributes); asked (its server would be); changed and
            new (would be fetched); rejected by the last run (would be tried again); refused now (no image_uri, or an
            image_id that stands twice, or what the catalog may not name); gone from the catalog.
        published: The published version; None before the first.
        published_snapshot: What it is made of.
        steps: What would be done, in words.
        gates: Of each gate that is sure to refuse, or may, what it would say; recall and overlap are not known before.
    """

    catalog_rows: int
    previous_snapshot: str | None
    why_anew: str
    rows: dict[str, int]
    published: str | None
    published_snapshot: str | None
    steps: tuple[str, ...]
    gates: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For --format json."""
        return dataclasses.asdict(self)

    def summary(self) -> Lines:
        """Rows by fate, what would be started from, what would be done."""
        return [
            ("rows", f"{self.catalog_rows:,}"),
            *((f"  {name}", f"{count:,}") for name, count in self.rows.items()),
            ("snapshot", self.previous_snapshot or f"none to start from{': ' * bool(self.why_anew)}{self.why_anew}"),
            ("published", f"{self.published} of snapshot {self.published_snapshot}" if self.published else "nothing"),
            *(("would", step) for step in self.steps),
            *(("gate", gate) for gate in self.gates),
        ]


def plan_reindex(request: ReindexRequest) -> ReindexPlan:
    """Compares the catalog with what the store has; fetches, embeds and writes nothing.

    Raises:
        UserError: A choice, the catalog or the encoder is wrong; or Beam is to run elsewhere.
        StoreError: The store cannot be read.
    """
    beam_options, trust = parse_beam_flags(list(request.beam_flags)), request.trusted()
    store = Store(os.fspath(request.store))
    if not is_local(beam_options):
        raise UserError("--dry_run compares on this machine: expected no --runner, or a local one")
    over = read_published(store)
    published = over.version if over and over.version and version_exists(store, over.version) else last_published(store)
    made_of = read_index_manifest(store, published).snapshot if published else None
    with tempfile.TemporaryDirectory(prefix="shelfmark-plan-") as scratch:
        catalog = open_named_catalog(request.catalog, Store(scratch), started_now()[0], trust)
        _, previous, why_anew = choose_encoder(request, store, Store(scratch), _say_damage)
        found = _compare(catalog, previous, trust.policy(catalog.base), beam_options, Path(scratch, "counts"))
    rows = {fate: found[fate] for fate in _FATES}
    steps = _steps(rows, previous, published, made_of)
    stands = standing(store, over)
    if stands is not None and stands.rolled_back_from is not None and not request.publish:
        steps = (rollback_gate(stands, over_rollback=False).says,)
    name = previous.name if previous else None
    gates = foresee_gates(request, rows, found["rows"], published_vectors(store, published))
    return ReindexPlan(found["rows"], name, why_anew, rows, published, made_of, steps, gates)


def foresee_gates(request: ReindexRequest, rows: dict[str, int], count: int, published: int) -> tuple[str, ...]:
    """What gates would refuse, as far as a catalog's rows tell.

    Args:
        request: With the limits.
        rows: By fate, see ReindexPlan.
        count: Of the catalog.
        published: Pictures of the version that gates compare with; 0 where there is none.

    Returns:
        A line for each gate that is sure to refuse, or that refuses if what the last run rejected is rejected again.
    """
    lines = []
    for rejected, verb in ((rows["refused"], "will refuse"), (rows["refused"] + rows["rejected"], "may refuse")):
        rejects = rejects_gate(rejected, count, request.max_reject_ratio)
        if not rejects.passed:
            lines.append(("rejects", f"rejects {verb}: {rejects.says}"))
        least, left = least_pictures(published, request.max_shrink), count - rejected
        if left < least:
            found = (
                f"{published:,} -> {left:,} pictures, expected at least {least:,}, --max_shrink {request.max_shrink:g}"
            )
            lines.append(("shrink", f"shrink {verb}: {found}"))
    return tuple(dict(reversed(lines)).values())


def _say_damage(folder: str, fault: str) -> None:
    LOG.warning(f"{folder} is damaged: {fault}")


def _compare(
    catalog: Catalog,
    previous: PreviousSnapshot | None,
    policy: FetchPolicy,
    beam_options: PipelineOptions,
    counts: Path,
) -> collections.Counter[str]:
    """How many rows there are of each fate, and "rows" in all."""
    counts.touch()
    pipeline = beam.Pipeline(options=beam_options)
    _count(pipeline, catalog, previous, str(counts), policy)
    try:
        pipeline.run().wait_until_finish()
    except Exception as error:
        raise StoreError(root_cause(str(error))) from error
    return collections.Counter(dict(_read_counts(counts)))


def _count(
    pipeline: beam.Pipeline, catalog: Catalog, previous: PreviousSnapshot | None, path: str, policy: FetchPolicy
) -> None:
    rows = pipeline | "ReadCatalog" >> ReadCatalog(catalog)
    row_count = rows | "CountRows" >> beam.combiners.Count.Globally()
    compare = CompareRows(previous, catalog, AsSingleton(row_count), ProgressFile(""), policy)
    compared = rows | "CompareRows" >> compare
    rejected = set(previous.rejected_rows()) if previous else set()
    look = beam.Map(_fate_of, catalog.base, policy, frozenset(rejected)).with_output_types(str)
    looks = compared[CompareRows.TASKS] | "LookAtSource" >> look
    _ = (
        (
            looks | "CountLooks" >> beam.combiners.Count.PerElement(),
            compared[CompareRows.TALLIES] | "CountCompared" >> beam.FlatMap(_counts_of),
            row_count | "NameRows" >> beam.Map(lambda count: ("rows", count)),
        )
        | "AllCounts" >> beam.Flatten()
        | "SumCounts" >> beam.CombinePerKey(sum)
        | "WriteCount" >> beam.Map(_append, path)
    )


def _fate_of(task: Task, base: str, policy: FetchPolicy, rejected: frozenset[tuple[str, str, str]]) -> str:
    row = task.row
    task = _refused_by_policy(task, base, policy)
    if task.reason:
        return "unchanged" if (row.image_id, row.image_uri, task.reason) in rejected else "refused"
    if task.previous is None:
        tried = any((row.image_id, row.image_uri, reason.value) in rejected for reason in Reason)
        return "rejected" if tried else "new"
    if not task.known_version:
        return "changed"
    same = is_same_file(resolve_uri(task.row.image_uri, base), task.known_version, policy)
    if same is None:
        return "asked"
    if not same:
        return "changed"
    row = dataclasses.replace(row, source_version=task.known_version)
    return "relabelled" if differs(Reuse(row, task.previous.place, ""), task.previous) else "unchanged"


def _refused_by_policy(task: Task, base: str, policy: FetchPolicy) -> Task:
    """The task, refused where its URI alone tells that it may not be fetched."""
    try:
        if not task.reason:
            policy.check(resolve_uri(task.row.image_uri, base))
    except Rejected as rejected:
        if rejected.reason is Reason.NOT_ALLOWED:
            return dataclasses.replace(task, reason=rejected.reason.value)
    return task


def _counts_of(tally: RunCounts) -> list[tuple[str, int]]:
    work = collections.Counter(tally.work)
    altered = work["altered"]
    return [("unchanged", work["unchanged"] - altered), ("relabelled", altered), ("gone", work["gone"])]


def _append(count: tuple[str, int], path: str) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write(f"{count[0]} {count[1]}\n")


def _read_counts(path: Path) -> list[tuple[str, int]]:
    pairs = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
    return [(name, int(count)) for name, count in pairs]


def _steps(
    rows: dict[str, int], previous: PreviousSnapshot | None, published: str | None, made_of: str | None
) -> tuple[str, ...]:
    fetched, asked = rows["changed"] + rows["new"] + rows["rejected"], rows["asked"]
    certain = previous is None or any(rows[fate] for fate in ("relabelled", "changed", "new", "refused", "gone"))
    steps = []
    if fetched or asked:
        asking = f", ask the servers of {asked:,} more whether theirs changed" if asked else ""
        steps.append(f"fetch {fetched:,} pictures{asking}")
    build = f"build a version, starting from {published}" if published else "build a version"
    outcome = (build, "publish it if it passes the gates, then prune")
    if certain:
        steps += ["commit a snapshot", *outcome]
    elif previous is not None and made_of != previous.name:
        steps += outcome
    elif steps:
        steps.append("commit a snapshot, build, gate and publish a version, only if that finds a change")
    return tuple(steps) or ("do nothing",)
