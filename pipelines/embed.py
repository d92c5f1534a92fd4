"""A catalog becomes a snapshot: the use case behind `shelfmark embed` and the first step of `reindex`."""

from __future__ import annotations

import datetime
import os
import tempfile
from pathlib import Path

from encoder.decode import DecodeOptions
from pipelines.beam_flags import parse_beam_flags
from pipelines.embed_pipeline import OnMetrics, WatchProgress, nobody_watches, run_pipeline
from pipelines.log import LOG
from pipelines.open_catalog import open_named_catalog
from pipelines.prepare_encoder import choose_encoder
from pipelines.requests import EmbedChoices, EmbedRequest, ReindexRequest, Uri
from pipelines.results import BeamMetrics, Snapshot
from pipelines.trust import why_not_allowed
from store.damage import is_rotten, setting_aside
from store.errors import StoreError, UserError
from store.location import Store
from store.process import utc_now
from store.snapshot import SnapshotManifest, new_name
from transforms.catalog import Catalog
from transforms.embeddings import EmbedOptions, EncoderSource
from transforms.previous import PreviousSnapshot
from transforms.progress import ProgressFile
from transforms.snapshot import SnapshotRequest


def embed(request: EmbedRequest, *, watch: WatchProgress = nobody_watches) -> Snapshot:
    """Embeds a catalog into a new snapshot; what an earlier one has of the same encoder is not done again.

    Args:
        request: What to embed, with what and how.
        watch: Shows the progress of a run on this machine.

    Raises:
        UserError: A choice, the catalog or the store is wrong.
        GateRefused: Too many rows were rejected; nothing was committed.
        StoreError: The run failed.
    """
    store = Store(os.fspath(request.store))
    metrics: BeamMetrics = {}
    manifest = embed_catalog(request.catalog, request, store, watch=watch, on_metrics=metrics.update)
    return Snapshot.of(store, manifest, metrics)


def embed_catalog(
    catalog_uri: Uri,
    request: EmbedRequest | ReindexRequest,
    store: Store,
    *,
    only_if_changed: bool = False,
    least_rows: int = 0,
    watch: WatchProgress = nobody_watches,
    on_metrics: OnMetrics = lambda _: None,
) -> SnapshotManifest:
    """As `run_pipeline`; where a snapshot that is built on turns out to be damaged, once more with one that is whole.

    Args:
        catalog_uri: What to embed.
        request: With what and how.
        store: Gets the snapshot.
        only_if_changed: See SnapshotRequest.
        least_rows: See SnapshotRequest.
        watch: Shows the progress of a run on this machine.
        on_metrics: See `run_pipeline`.

    Raises:
        UserError, GateRefused, StoreError: See `embed`.
    """
    _check_flags(request)  # what nobody knows is told before anything is read
    aside = setting_aside(store, LOG.warning)
    while True:
        snapshot, now = started_now()
        catalog = open_named_catalog(catalog_uri, store, snapshot, request.trusted())
        store.check_writable()
        source, previous, why_none = choose_encoder(request, store, store, aside)
        if why_none:
            LOG.info(why_none)
        began, most = now.isoformat(), request.max_reject_ratio
        wanted = SnapshotRequest(snapshot, catalog.uri, began, most, only_if_changed, least_rows)
        try:
            return _embed(catalog, source, store, wanted, request, previous, watch, on_metrics)
        except StoreError:
            if previous is None or not is_rotten(store, previous.name, aside):
                raise  # else once more, with what is whole


def _embed(
    catalog: Catalog,
    source: EncoderSource,
    store: Store,
    wanted: SnapshotRequest,
    choices: EmbedChoices,
    previous: PreviousSnapshot | None,
    watch: WatchProgress,
    on_metrics: OnMetrics,
) -> SnapshotManifest:
    """Runs the pipeline, its progress in a file of its own, and says what the catalog may not name."""
    beam_options = parse_beam_flags(list(choices.beam_flags))
    with tempfile.TemporaryDirectory(prefix="shelfmark-") as scratch:
        options = embed_options(choices, catalog, source, previous, new_progress(scratch))
        manifest = run_pipeline(catalog, source, store, wanted, options, beam_options, watch, on_metrics)
    if why := why_not_allowed(manifest.rejected_by_reason):
        LOG.warning(why)
    return manifest


def started_now() -> tuple[str, datetime.datetime]:
    """A new snapshot's name and the time it stands for."""
    now = utc_now()
    return new_name(now), now


def new_progress(folder: str | Path) -> ProgressFile:
    """An empty progress file in a folder."""
    path = Path(folder, "progress")
    path.touch()
    return ProgressFile(str(path))


def embed_options(
    request: EmbedChoices,
    catalog: Catalog,
    source: EncoderSource,
    previous: PreviousSnapshot | None,
    progress: ProgressFile,
) -> EmbedOptions:
    """What the workers need to know of a request.

    Args:
        request: As the user made it.
        catalog: Found.
        source: Prepared.
        previous: The snapshot whose embeddings are used again.
        progress: Where progress is recorded.

    Raises:
        UserError: A choice makes no sense.
    """
    return EmbedOptions(
        base=catalog.base,
        decode=DecodeOptions(source.image_size, source.resize, request.max_pixels),
        fetch=request.fetch_options(),
        policy=request.trusted().policy(catalog.base),
        progress=progress,
        resource_hints=_resource_hints(request),
        previous=previous,
        max_stale_runs=request.max_stale_runs,
        thumbnails=request.thumbnails,
    )


def _resource_hints(request: EmbedChoices) -> tuple[tuple[str, str], ...]:
    hints = (("min_ram", request.min_ram), ("accelerator", request.accelerator))
    return tuple((name, value) for name, value in hints if value)


def _check_flags(request: EmbedChoices) -> None:
    from apache_beam.transforms.resources import parse_resource_hints

    parse_beam_flags(list(request.beam_flags))
    try:
        parse_resource_hints(dict(_resource_hints(request)))
    except ValueError as error:
        raise UserError(str(error)) from error
