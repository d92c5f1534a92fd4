"""`shelfmark embed`: a catalog becomes a snapshot."""

from __future__ import annotations

import dataclasses
import datetime
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pvalue import AsSingleton
from apache_beam.runners.runner import PipelineState

from encoder.backbones import find_backbone
from encoder.source import KerasEncoderSource, publish_weights
from encoder.spec import EncoderSpec
from encoder.weights import ResolvedWeights, resolve_weights
from fetch.uris import table_kind
from pipelines.beam_flags import is_local
from pipelines.console import LOG, ProgressDisplay
from pipelines.summary import why_not_allowed
from store.errors import GateRefused, StoreError, UserError
from store.location import Store
from store.process import utc_now
from store.rejects import Rejected
from store.snapshot import (
    MANIFEST,
    REFUSED,
    UNCHANGED,
    SnapshotManifest,
    new_name,
    read_manifest,
    snapshot_folder,
)
from transforms.catalog import Catalog, ReadCatalog, find_catalog
from transforms.compare import CompareRows
from transforms.copies import CopyReused
from transforms.embeddings import EmbedOptions, EmbedShards, EncoderSource
from transforms.encoder_choice import ChooseEncoder
from transforms.progress import ProgressFile
from transforms.shards import ShardTasks
from transforms.snapshot import CommitSnapshot, SnapshotRequest, SumTallies, Verdict, judge


@dataclasses.dataclass(frozen=True, slots=True)
class EncoderRequest:
    """The encoder a user asked for.

    Attributes:
        backbone: A keras.applications name.
        weights: imagenet, a file, random or random:SEED.
        precision: auto, float32, bfloat16 or float16.
        image_size: Side in pixels, or 0 for the backbone's own.
        resize: pad, crop or stretch.
        batch_size: Pictures per batch, or 0 for what suits the hardware.
    """

    backbone: str = "resnet50"
    weights: str = "imagenet"
    precision: str = "auto"
    image_size: int = 0
    resize: str = "pad"
    batch_size: int = 0


def prepare_encoder(store: Store, request: EncoderRequest) -> tuple[KerasEncoderSource, ResolvedWeights]:
    """Resolves weights once, here, and puts them into the store for the workers.

    Raises:
        UserError: Unknown backbone, weights that cannot be had or belong to another architecture.
    """
    backbone = find_backbone(request.backbone)
    image_size = request.image_size or backbone.default_image_size
    scratch = Path(tempfile.mkdtemp(prefix="shelfmark-weights-"))
    try:
        resolved = resolve_weights(request.weights, backbone, image_size, scratch)
        publish_weights(store, resolved.path, resolved.sha256)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if resolved.trained and resolved.label != "imagenet" and backbone.name.startswith("EfficientNetB"):
        LOG.warning(
            f"{backbone.name}: Keras rescales its input once more when it starts from ImageNet weights, which a "
            "weights file does not tell; if this file was trained so, expect wrong embeddings"
        )
    spec = EncoderSpec(
        backbone=backbone.name,
        weights=resolved.label,
        weights_sha256=resolved.sha256,
        precision="float32",
        image_size=image_size,
        resize=request.resize,
        embedding_dim=resolved.embedding_dim,
    )
    return KerasEncoderSource(store, spec, request.precision, request.batch_size), resolved


def open_catalog(uri: str, store: Store, snapshot: str, fetch_bytes: Callable[[str], bytes]) -> Catalog:
    """Finds a catalog; a table behind http(s) is first copied into the snapshot's folder, for every worker to read.

    Args:
        uri: As the user gave it.
        store: Where the copy goes.
        snapshot: The run's snapshot.
        fetch_bytes: URI -> bytes, for http(s).

    Raises:
        UserError: See `find_catalog`.
    """
    if not re.match(r"https?://", uri):
        return find_catalog(uri)
    folder, name = re.sub(r"[?#].*", "", uri).rsplit("/", 1)
    if table_kind(name) is None:
        raise UserError(f"--catalog {uri}: expected a .csv, .jsonl or .parquet table behind http(s), found {name!r}")
    path = f"{snapshot_folder(snapshot)}/catalog-{name}"
    try:
        store.replace(path, fetch_bytes(uri))
    except Rejected as rejected:
        raise UserError(f"--catalog {uri}: {rejected.detail}") from rejected
    return find_catalog(uri, pattern=store.full_path(path), base=folder)


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


def embed(
    catalog: Catalog,
    source: EncoderSource,
    store: Store,
    request: SnapshotRequest,
    options: EmbedOptions,
    beam_options: PipelineOptions,
) -> SnapshotManifest:
    """Runs the pipeline to its end and reads what it committed.

    Returns:
        The new snapshot's manifest. Where the request wants a snapshot only for a change and there is none: what the
        run counted, no files, and the name of a snapshot that does not exist; the previous one stands.

    Raises:
        GateRefused: Too many rows were rejected; nothing was committed.
        StoreError, UserError: The run failed; the message is the cause's.
    """
    pipeline = beam.Pipeline(options=beam_options)
    build_pipeline(pipeline, catalog, source, store, request, options)
    try:
        if is_local(beam_options):
            with ProgressDisplay(options.progress):
                state = pipeline.run().wait_until_finish()
        else:
            state = pipeline.run().wait_until_finish()
    except (KeyboardInterrupt, SystemExit):
        raise
    except Exception as error:
        raise StoreError(root_cause(str(error))) from error
    if state != PipelineState.DONE:
        raise StoreError(f"the pipeline ended {state}; {_committed_so_far(store, request)}")
    return _outcome(store, request)


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


def started_now() -> tuple[str, datetime.datetime]:
    """A new snapshot's name and the time it stands for."""
    now = utc_now()
    return new_name(now), now
