"""The Beam pipeline from a catalog to a snapshot: composed, run, and what it committed read back."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pvalue import AsSingleton
from apache_beam.runners.runner import PipelineResult, PipelineState

from pipelines.beam_flags import is_local
from pipelines.trust import why_not_allowed
from store.errors import GateRefused, StoreError
from store.location import Store
from store.snapshot import (
    MANIFEST,
    REFUSED,
    UNCHANGED,
    SnapshotManifest,
    read_manifest,
    snapshot_folder,
)
from transforms.beam_metrics import reported_metrics
from transforms.catalog import Catalog, ReadCatalog
from transforms.compare import CompareRows
from transforms.copies import CopyReused
from transforms.embeddings import EmbedOptions, EmbedShards, EncoderSource
from transforms.encoder_choice import ChooseEncoder
from transforms.progress import ProgressFile
from transforms.shards import ShardTasks
from transforms.snapshot import CommitSnapshot, SnapshotRequest, SumTallies, Verdict, judge

WatchProgress = Callable[[ProgressFile], AbstractContextManager[object]]
"""Shows what a progress file says while its `with` block runs."""


OnMetrics = Callable[[dict[str, "int | dict[str, float]"]], object]


def nobody_watches(progress: ProgressFile) -> AbstractContextManager[object]:
    """Shows nothing."""
    del progress
    return nullcontext()


def build_pipeline(
    pipeline: beam.Pipeline,
    catalog: Catalog,
    source: EncoderSource,
    store: Store,
    request: SnapshotRequest,
    options: EmbedOptions,
) -> None:
    """Composes the journey from catalog to snapshot."""
    folder, previous, progress = snapshot_folder(request.snapshot), options.previous, options.progress
    rows = pipeline | "ReadCatalog" >> ReadCatalog(catalog)
    row_count = rows | "CountRows" >> beam.combiners.Count.Globally()
    _ = row_count | "AnnounceTotal" >> beam.Map(_announce, progress)
    count = AsSingleton(row_count)
    spec = AsSingleton(rows | "ChooseEncoder" >> ChooseEncoder(source, options))
    compared = rows | "CompareRows" >> CompareRows(previous, catalog, count, progress, options.policy)
    task_count = compared[CompareRows.TASKS] | "CountTasks" >> beam.combiners.Count.Globally()
    embedded = (
        compared[CompareRows.TASKS]
        | "ShardTasks" >> ShardTasks(AsSingleton(task_count))
        | "EmbedShards" >> EmbedShards(source, spec, store, folder, options)
    )
    tallies = (compared[CompareRows.TALLIES], embedded[EmbedShards.TALLIES])
    done = tallies | "AllTallies" >> beam.Flatten() | "SumTallies" >> SumTallies()
    verdict = AsSingleton(done | "Judge" >> beam.Map(judge, request, previous).with_output_types(Verdict))
    reused = (compared[CompareRows.REUSED], embedded[EmbedShards.REUSED])
    _ = (
        reused
        | "AllReused" >> beam.Flatten()
        | "CopyReused" >> CopyReused(previous, store, folder, spec, verdict)
        | "SumCopies" >> SumTallies()
        | "CommitSnapshot" >> CommitSnapshot(store, request, previous, AsSingleton(done), count, spec, verdict)
    )


def _announce(total: int, progress: ProgressFile) -> None:
    progress.record(total=total)


def run_pipeline(
    catalog: Catalog,
    source: EncoderSource,
    store: Store,
    request: SnapshotRequest,
    options: EmbedOptions,
    beam_options: PipelineOptions,
    watch: WatchProgress = nobody_watches,
    on_metrics: OnMetrics = lambda _: None,
) -> SnapshotManifest:
    """Runs the pipeline to its end and reads what it committed.

    Args:
        catalog: What to embed.
        source: What makes the encoder.
        store: Gets the snapshot.
        request: The snapshot that is wanted.
        options: How pictures are fetched, decoded, embedded.
        beam_options: Of Beam; with the runner.
        watch: Shows the progress of a run on this machine.
        on_metrics: Told what the runner reports of `transforms.beam_metrics`.

    Returns:
        The new snapshot's manifest. Where the request wants a snapshot only for a change and there is none: what the
        run counted, no files, and the name of a snapshot that does not exist; the previous one stands.

    Raises:
        GateRefused: Too many rows were rejected; nothing was committed.
        StoreError, UserError: The run failed; the message is the cause's.
    """
    pipeline = beam.Pipeline(options=beam_options)
    build_pipeline(pipeline, catalog, source, store, request, options)
    with (watch if is_local(beam_options) else nobody_watches)(options.progress):
        result, state = _run_to_its_end(pipeline)
    if state != PipelineState.DONE:
        raise StoreError(f"the pipeline ended {state}; {_committed_so_far(store, request)}")
    on_metrics(reported_metrics(result))
    return _outcome(store, request)


def _run_to_its_end(pipeline: beam.Pipeline) -> tuple[PipelineResult, str]:
    try:
        result = pipeline.run()
        return result, result.wait_until_finish()
    except Exception as error:
        raise StoreError(root_cause(str(error))) from error


def _committed_so_far(store: Store, request: SnapshotRequest) -> str:
    """A job that runs elsewhere may have ended otherwise than its runner says, or not yet."""
    if store.size_bytes(f"{snapshot_folder(request.snapshot)}/{MANIFEST}") is not None:
        return f"snapshot {request.snapshot} is committed"
    return f"snapshot {request.snapshot} is not committed so far"


def _outcome(store: Store, request: SnapshotRequest) -> SnapshotManifest:
    folder = snapshot_folder(request.snapshot)
    if store.size_bytes(f"{folder}/{MANIFEST}") is not None:
        return read_manifest(store, request.snapshot)
    if store.size_bytes(f"{folder}/{UNCHANGED}") is not None:
        unchanged = SnapshotManifest.from_json(store.read(f"{folder}/{UNCHANGED}"))
        store.remove_folder(folder)
        return unchanged
    if store.size_bytes(f"{folder}/{REFUSED}") is None:
        raise StoreError("the pipeline ended without a snapshot and without a refusal; look at the runner's log")
    refused = SnapshotManifest.from_json(store.read(f"{folder}/{REFUSED}"))
    raise GateRefused(_refusal(refused, request, store.full_path(folder)))


def _refusal(refused: SnapshotManifest, request: SnapshotRequest, folder: str) -> str:
    counts = refused.counts
    if counts.reject_ratio <= request.max_reject_ratio:
        return (
            f"not committed: expected at least {request.least_rows:,} pictures, as the published version has so many "
            f"(--max_shrink), found {counts.embedded + counts.reused:,}; is the catalog whole?"
        )
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in refused.rejected_by_reason.items())
    return (
        f"not committed: {counts.rejected:,} of {counts.catalog_rows:,} rows were rejected ({reasons}), more than "
        f"--max_reject_ratio {request.max_reject_ratio:g}; the rejects are listed in {folder}/rejected-*.parquet"
        f"{why_not_allowed(refused.rejected_by_reason, before='; ')}"
    )


_ERROR_LINE = re.compile(r"^(?:[A-Za-z_][\w.]*\.)?[A-Z]\w*(?:Error|Exception|Interrupt)\b: ?(.*)$", re.MULTILINE)


def root_cause(text: str) -> str:
    """The last error named in a runner's report, on one line, without tracebacks and step names."""
    lines = _ERROR_LINE.findall(text)
    cause = lines[-1] if lines else (text.strip().splitlines() or ["unknown error"])[-1]
    return re.sub(r"\s*\[while running .*", "", cause).strip()
