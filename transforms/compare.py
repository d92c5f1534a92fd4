"""CompareRows: catalog rows meet the previous snapshot's by image_id; whose source is unchanged needs no fetching."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam

from store.rejects import Reason
from transforms.previous import PreviousRow, PreviousSnapshot, ReadPrevious, describe
from transforms.rows import CatalogRow
from transforms.shards import count_shards, shard_of
from transforms.source_version import is_told_by_source
from transforms.tally import Tally
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
    what they were; TALLIES: PCollection[Tally].
    """

    TASKS, REUSED, TALLIES = "tasks", "reused", "tallies"

    def __init__(
        self, previous: PreviousSnapshot | None, same_base: bool, row_count: beam.pvalue.AsSingleton, progress: Any
    ) -> None:
        """Takes what to compare with.

        Args:
            previous: None for a first run, or one that ignores the past.
            same_base: Whether relative URIs start where they did then.
            row_count: Catalog rows.
            progress: A ProgressFile.
        """
        super().__init__()
        self._previous = previous
        self._same_base = same_base
        self._row_count = row_count
        self._progress = progress

    def expand(self, rows: beam.PCollection[CatalogRow]) -> beam.pvalue.DoOutputsTuple:
        """Both sides by the same hash of image_id, a few thousand rows at a time."""
        catalog = rows | "CatalogById" >> beam.Map(_by_image_id, row_count=self._row_count).with_output_types(
            tuple[int, CatalogRow]
        )
        previous = (
            rows.pipeline
            | "ReadPrevious" >> ReadPrevious(self._previous)
            | "PreviousById"
            >> beam.Map(_by_image_id, row_count=self._row_count).with_output_types(tuple[int, PreviousRow])
        )
        compare = beam.FlatMap(_compare_bucket, same_base=self._same_base, progress=self._progress)
        outputs = (
            {"catalog": catalog, "previous": previous}
            | "JoinById" >> beam.CoGroupByKey()
            | "Compare" >> compare.with_outputs(self.TASKS, self.REUSED, self.TALLIES)
        )
        for tag, kind in ((self.TASKS, Task), (self.REUSED, Reuse), (self.TALLIES, Tally)):
            outputs[tag].element_type = kind
        return outputs


def _by_image_id(row: CatalogRow | PreviousRow, row_count: int) -> tuple[int, CatalogRow | PreviousRow]:
    return shard_of(row.image_id, count_shards(row_count)), row


def _compare_bucket(
    bucket: tuple[int, Mapping[str, Iterable[Any]]], same_base: bool, progress: Any
) -> Iterator[beam.pvalue.TaggedOutput]:
    sides = bucket[1]
    past = {row.image_id: row for row in sides["previous"]}
    work = collections.Counter(gone=len(past))
    first = _first_positions(sides["catalog"])
    for row in sides["catalog"]:
        refused = _refuse(row, first)
        if refused is not None:
            yield beam.pvalue.TaggedOutput(CompareRows.TASKS, refused)
            continue
        previous = past.get(row.image_id)
        work.update(added=int(previous is None), gone=-int(previous is not None))
        if previous is not None and _is_unchanged(row, previous):
            reuse = Reuse(row, previous.place, previous.content_sha256)
            work.update(unchanged=1, altered=int(differs(reuse, previous)))
            progress.record(reused=1)
            yield beam.pvalue.TaggedOutput(CompareRows.REUSED, reuse)
        else:
            known = _askable_version(row, previous, same_base)
            yield beam.pvalue.TaggedOutput(CompareRows.TASKS, Task(row, previous, known))
    yield beam.pvalue.TaggedOutput(CompareRows.TALLIES, Tally(reused=work["unchanged"], work=dict(work)))


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
