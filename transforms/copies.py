"""CopyReused: embeddings of the previous snapshot become rows of the new one, each old file read once and in order."""

from __future__ import annotations

import collections
import uuid
from collections.abc import Iterable, Iterator, Sequence

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from encoder.spec import EncoderSpec
from store.errors import StoreError
from store.location import Store
from store.parts import PartFile, PartWriter
from store.rejects import Reason
from store.schema import STALE_SCHEMA, embedding_schema
from store.snapshot import PART, STALE
from transforms.previous import PreviousSnapshot
from transforms.run_counts import RunCounts
from transforms.shard_files import cause, identity
from transforms.shards import shard_rows
from transforms.snapshot import Verdict
from transforms.tasks import Reuse

_KEPT = ["content_sha256", "width", "height", "embedding_norm", "embedding"]


def group_parts(parts: Sequence[PartFile], rows_wanted: int) -> list[int]:
    """For each part the number of the copy that it goes into: neighbours share one until it has the rows wanted.

    Without this a snapshot would have the files of every run there ever was.
    """
    groups: list[int] = []
    group, held = 0, 0
    for part in parts:
        if held and held + part.rows > rows_wanted:
            group, held = group + 1, 0
        groups.append(group)
        held += part.rows
    return groups


class CopyReused(beam.PTransform):
    """Copies embeddings. They cross no stage: what is shuffled is where they lie and what the catalog says now.

    Input: PCollection[Reuse], and as singleton side inputs the EncoderSpec and the Verdict.
    Output: PCollection[RunCounts], of files alone.
    """

    def __init__(
        self,
        previous: PreviousSnapshot | None,
        store: Store,
        folder: str,
        spec: beam.pvalue.AsSingleton,
        verdict: beam.pvalue.AsSingleton,
    ) -> None:
        super().__init__()
        self._previous = previous
        self._store = store
        self._folder = folder
        self._spec = spec
        self._verdict = verdict

    def expand(self, reused: beam.PCollection[Reuse]) -> beam.PCollection[RunCounts]:
        """By the file an embedding lies in, then one file at a time."""
        groups = group_parts(self._previous.parts, shard_rows(self._previous.rows)) if self._previous else []
        copy = beam.FlatMap(_copy, self._previous, groups, self._store, self._folder, self._spec, self._verdict)
        return (
            reused
            | "AssignCopy" >> beam.Map(_assign, self._previous, groups).with_output_types(tuple[int, Reuse])
            | "GroupCopy" >> beam.GroupByKey()
            | "CopyEmbeddings" >> copy.with_output_types(RunCounts)
        )


def _assign(reuse: Reuse, previous: PreviousSnapshot, groups: list[int]) -> tuple[int, Reuse]:
    return groups[previous.part_at(reuse.place)], reuse


def _copy(
    group: tuple[int, Iterable[Reuse]],
    previous: PreviousSnapshot,
    groups: list[int],
    store: Store,
    folder: str,
    spec: EncoderSpec,
    verdict: Verdict,
) -> Iterator[RunCounts]:
    if verdict is not Verdict.COMMIT:
        return
    number, reused = group
    rows = sorted(reused, key=lambda reuse: (reuse.place, reuse.row.image_id))
    name = f"c{number:05d}-{uuid.uuid4().hex[:12]}.parquet"
    schema = embedding_schema(spec.embedding_dim, spec.fingerprint)
    embedded = PartWriter(store, folder, PART + name, schema)
    for table in _tables(previous, [at for at, of in enumerate(groups) if of == number], rows, schema):
        embedded.add_table(table)
    stale = PartWriter(store, folder, STALE + name, STALE_SCHEMA)
    for reuse in rows:
        if reuse.stale_runs:
            why = cause(Reason(reuse.reason).stage, reuse.reason, reuse.detail)
            stale.add({**identity(reuse.row), **why, "stale_runs": reuse.stale_runs})
    files = tuple(file for file in (embedded.close(), stale.close()) if file is not None)
    yield RunCounts(files=files, copied=len(rows))


def _tables(previous: PreviousSnapshot, parts: list[int], rows: list[Reuse], schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows' new table, a batch of the old files at a time; `rows` are sorted by place."""
    waiting = collections.deque(rows)
    for number in parts:
        start = previous.starts[number]
        for batch in previous.batches(previous.parts[number], _KEPT):
            here = []
            while waiting and waiting[0].place < start + batch.num_rows:
                here.append(waiting.popleft())
            if here:
                yield _table(batch, start, here, schema)
            start += batch.num_rows
    if waiting:
        raise StoreError(
            f"snapshot {previous.name}: expected a row {waiting[0].place}, found only {previous.rows} rows"
        )


def _table(batch: pa.RecordBatch, start: int, rows: list[Reuse], schema: pa.Schema) -> pa.Table:
    taken = batch.take(pa.array(np.array([reuse.place - start for reuse in rows], np.int64)))
    expected = pa.array([reuse.content_sha256 for reuse in rows], pa.string())
    if not pc.all(pc.equal(taken["content_sha256"], expected)).as_py():
        raise StoreError("the previous snapshot changed while it was read; run again")
    catalog = {
        "image_id": [reuse.row.image_id for reuse in rows],
        "item_id": [reuse.row.item_id for reuse in rows],
        "image_uri": [reuse.row.image_uri for reuse in rows],
        "source_version": [reuse.row.source_version for reuse in rows],
        "attributes": [list(reuse.row.attributes.items()) for reuse in rows],
    }
    columns = [
        taken[field.name] if field.name in _KEPT else pa.array(catalog[field.name], field.type) for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)
