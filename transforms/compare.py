"""CompareRows: catalog rows meet the previous snapshot's by image_id; whose source is unchanged needs no fetching."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam

from fetch.policy import FetchPolicy
from fetch.source_version import is_told_by_source
from fetch.uris import catalog_base, resolve_uri
from store.rejects import Reason, Rejected
from transforms import beam_metrics
from transforms.catalog import Catalog
from transforms.previous import PreviousRow, PreviousSnapshot, ReadPrevious, ReadStale, StaleMark, describe
from transforms.progress import ProgressFile
from transforms.rows import CatalogRow
from transforms.run_counts import RunCounts
from transforms.shards import count_shards, shard_of
from transforms.tasks import Reuse, Task


def differs(reuse: Reuse, previous: PreviousRow | None) -> bool:
    """Whether a reused row says anything else than the previous snapshot did of the same image_id."""
    if previous is None or reuse.place != previous.place or reuse.stale_runs != previous.stale_runs:
        return True
    row = reuse.row
    return describe(row.item_id, row.image_uri, row.source_version, row.attributes) != previous.description


class CompareRows(beam.PTransform):
    """Joins the catalog with the previous snapshot by image_id. Embeddings stay where they are.

    Input: PCollection[CatalogRow].
    Output: tagged: TASKS: PCollection[Task]; REUSED: PCollection[Reuse], rows whose image_uri and source_version are
    what they were; TALLIES: PCollection[RunCounts].
    """

    TASKS, REUSED, TALLIES = "tasks", "reused", "tallies"

    def __init__(
        self,
        previous: PreviousSnapshot | None,
        catalog: Catalog,
        row_count: beam.pvalue.AsSingleton,
        progress: ProgressFile,
        policy: FetchPolicy,
    ) -> None:
        """Takes what to compare with.

        Args:
            previous: None for a first run, or one that ignores the past.
            catalog: Where the rows come from.
            row_count: How many.
            progress: Where rows that need nothing more are counted.
            policy: What the catalog may name: nothing that it may not is used again without being fetched, as far as a
                URI alone tells.
        """
        super().__init__()
        self._previous = previous
        self._same_base = previous is not None and catalog_base(previous.catalog) == catalog_base(catalog.uri)
        self._row_count = row_count
        self._progress = progress
        self._may_name = _MayName(catalog.base, policy)

    def expand(self, rows: beam.PCollection[CatalogRow]) -> beam.pvalue.DoOutputsTuple:
        """All sides by the same hash of image_id, a few thousand rows at a time."""
        by_id = {
            "catalog": rows | "CatalogById" >> self._by_image_id(CatalogRow),
            "previous": rows.pipeline
            | "ReadPrevious" >> ReadPrevious(self._previous)
            | "PreviousById" >> self._by_image_id(PreviousRow),
            "stale": rows.pipeline
            | "ReadStale" >> ReadStale(self._previous)
            | "StaleById" >> self._by_image_id(StaleMark),
        }
        compare = beam.FlatMap(
            _compare_bucket, same_base=self._same_base, progress=self._progress, may_name=self._may_name
        )
        outputs = (
            by_id
            | "JoinById" >> beam.CoGroupByKey()
            | "Compare" >> compare.with_outputs(self.TASKS, self.REUSED, self.TALLIES)
        )
        for tag, kind in ((self.TASKS, Task), (self.REUSED, Reuse), (self.TALLIES, RunCounts)):
            outputs[tag].element_type = kind
        return outputs

    def _by_image_id(self, kind: Any) -> beam.PTransform:
        least_rows = self._previous.rows if self._previous else 0
        key = beam.Map(_by_image_id, least_rows=least_rows, row_count=self._row_count)
        return key.with_output_types(tuple[int, kind])


@dataclasses.dataclass(frozen=True, slots=True)
class _MayName:
    """What a catalog may name, told without asking anybody. The rest is told where a picture is fetched."""

    base: str
    policy: FetchPolicy

    def refuse(self, row: CatalogRow) -> Task | None:
        try:
            self.policy.check(resolve_uri(row.image_uri, self.base))
        except Rejected as rejected:
            if rejected.reason is Reason.NOT_ALLOWED:
                return Task(row, reason=rejected.reason.value, detail=rejected.detail)
        return None


def _by_image_id(row: Any, least_rows: int, row_count: int) -> tuple[int, Any]:
    # By the larger of both sides: a catalog of ten rows must not meet a hundred million of yesterday's in one bucket.
    return shard_of(row.image_id, count_shards(max(row_count, least_rows))), row


def _compare_bucket(
    bucket: tuple[int, Mapping[str, Iterable[Any]]], same_base: bool, progress: ProgressFile, may_name: _MayName
) -> Iterator[beam.pvalue.TaggedOutput]:
    sides = bucket[1]
    past: dict[str, PreviousRow] = {row.image_id: row for row in sides["previous"]}
    for mark in sides["stale"]:
        past[mark.image_id] = dataclasses.replace(past[mark.image_id], stale_runs=mark.stale_runs)
    work = collections.Counter(gone=len(past))
    first = _first_positions(sides["catalog"])
    for row in sides["catalog"]:
        refused = _refuse(row, first)
        if refused is not None:
            yield beam.pvalue.TaggedOutput(CompareRows.TASKS, refused)
            continue
        previous = past.get(row.image_id)
        work["gone"] -= previous is not None
        if previous is not None and _is_unchanged(row, previous):
            forbidden = may_name.refuse(row)
            if forbidden is not None:
                yield beam.pvalue.TaggedOutput(CompareRows.TASKS, forbidden)
                continue
            reuse = Reuse(row, previous.place, previous.content_sha256)
            work.update(unchanged=1, altered=int(differs(reuse, previous)))
            yield beam.pvalue.TaggedOutput(CompareRows.REUSED, reuse)
        else:
            known = _askable_version(row, previous, same_base)
            yield beam.pvalue.TaggedOutput(CompareRows.TASKS, Task(row, previous, known))
    progress.record(reused=work["unchanged"])
    beam_metrics.count_reused(work["unchanged"])
    yield beam.pvalue.TaggedOutput(CompareRows.TALLIES, RunCounts(reused=work["unchanged"], work=dict(work)))


def _is_unchanged(row: CatalogRow, previous: PreviousRow) -> bool:
    return bool(row.source_version) and (row.image_uri, row.source_version) == (
        previous.image_uri,
        previous.source_version,
    )


def _askable_version(row: CatalogRow, previous: PreviousRow | None, same_base: bool) -> str:
    """A version that the picture's own source gave, of the same URI; a column's says nothing to a server."""
    if previous is None or row.source_version or row.image_uri != previous.image_uri:
        return ""
    if not is_told_by_source(previous.source_version):
        return ""
    return previous.source_version if same_base or "://" in row.image_uri else ""


def _first_positions(rows: Iterable[CatalogRow]) -> dict[str, str]:
    """For every image_id of a bucket, the position of the row that keeps it."""
    first: dict[str, str] = {}
    for row in rows:
        if not row.fault:
            first[row.image_id] = min(first.get(row.image_id, row.position), row.position)
    return first


def _refuse(row: CatalogRow, first: dict[str, str]) -> Task | None:
    if row.fault:
        return Task(row, reason=Reason.MISSING_FIELD.value, detail=row.fault)
    if first[row.image_id] != row.position:
        detail = f"{row.position}: image_id {row.image_id} already stands at {first[row.image_id]}"
        return Task(row, reason=Reason.DUPLICATE_IMAGE_ID.value, detail=detail)
    return None
