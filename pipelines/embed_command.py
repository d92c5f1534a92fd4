"""`shelfmark embed`: its flags, and what they set going; `reindex` begins the same way."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import tempfile
from pathlib import Path

from encoder.decode import RESIZE_MODES, DecodeOptions
from encoder.source import PRECISIONS, KerasEncoderSource
from pipelines import embed
from pipelines.beam_flags import parse_beam_flags
from pipelines.console import LOG
from pipelines.flag_types import Commands, Parser, add_output_flags, natural, positive, ratio, seconds
from pipelines.incremental import choose_previous
from pipelines.summary import snapshot_document, snapshot_table
from store.damage import OnDamage, is_rotten, setting_aside
from store.errors import StoreError, UserError
from store.location import Store
from store.snapshot import SnapshotManifest
from transforms.catalog import Catalog
from transforms.embeddings import MAX_STALE_RUNS, EmbedOptions
from transforms.fetch import FetchOptions, ImageFetcher
from transforms.previous import PreviousSnapshot
from transforms.progress import ProgressFile
from transforms.snapshot import SnapshotRequest

DEFAULT_MAX_REJECT_RATIO = 0.1

_MAX_TABLE_BYTES = 1 << 30
_ENCODER_FLAGS = ("backbone", "weights", "precision", "image_size", "resize", "batch_size")
_FETCH_FLAGS = (
    "max_image_bytes",
    "parallel_fetches",
    "connections_per_host",
    "connect_timeout_s",
    "read_timeout_s",
    "deadline_s",
    "attempts",
)


def add_embed(commands: Commands) -> None:
    """Flags of `shelfmark embed`."""
    summary = "embed the pictures of a catalog into a new snapshot; what the last one has is not done again"
    parser: Parser = commands.add_parser(
        "embed",
        help=summary,
        description=summary,
        epilog="Flags that are not listed go to Apache Beam: --runner, --direct_num_workers, --project, ...",
        allow_abbrev=False,
    )
    add_embedding_flags(parser)
    add_output_flags(parser)


def add_embedding_flags(parser: Parser) -> None:
    """Everything that says what is embedded, with what and how."""
    parser.add_argument("--catalog", required=True, metavar="URI", help="folder, glob, .csv, .jsonl or .parquet")
    parser.add_argument("--store", required=True, metavar="URI", help="folder, gs:// or s3:// where snapshots lie")
    parser.add_argument(
        "--max_reject_ratio",
        type=ratio,
        default=DEFAULT_MAX_REJECT_RATIO,
        help="commit nothing, exit 3, when more of the rows are rejected (default: %(default)s)",
    )
    past = parser.add_argument_group("what is known already")
    past.add_argument(
        "--full", action="store_true", help="fetch and embed every picture, whatever earlier snapshots have"
    )
    past.add_argument(
        "--max_stale_runs",
        type=natural,
        default=MAX_STALE_RUNS,
        metavar="N",
        help="runs in a row that a picture's last embedding is kept while its server is down (default: %(default)s)",
    )
    _add_encoder_flags(parser.add_argument_group("encoder"))
    _add_fetch_flags(parser.add_argument_group("pictures"))
    workers = parser.add_argument_group("workers that embed")
    workers.add_argument("--min_ram", metavar="SIZE", help="memory hint for the embedding step alone, such as 16GB")
    workers.add_argument("--accelerator", metavar="HINT", help="accelerator hint for the embedding step alone")


def _add_encoder_flags(group: argparse._ArgumentGroup) -> None:
    default = embed.EncoderRequest()
    group.add_argument(
        "--backbone", default=default.backbone, help="any keras.applications model (default: %(default)s)"
    )
    group.add_argument(
        "--weights",
        default=default.weights,
        metavar="WEIGHTS",
        help="imagenet, a .weights.h5, .h5 or .keras file, random or random:SEED (default: %(default)s)",
    )
    group.add_argument("--precision", choices=PRECISIONS, default=default.precision, help="default: %(default)s")
    group.add_argument("--image_size", type=positive, default=0, metavar="PX", help="default: the backbone's own")
    group.add_argument(
        "--resize",
        choices=RESIZE_MODES,
        default=default.resize,
        help="pad: letterbox on white; crop: centre, as ImageNet evaluation; stretch (default: %(default)s)",
    )
    group.add_argument("--batch_size", type=positive, default=0, metavar="N", help="default: 32 on a CPU, 256 on a GPU")


def _add_fetch_flags(group: argparse._ArgumentGroup) -> None:
    default = FetchOptions()
    pixels = DecodeOptions().max_pixels
    group.add_argument("--max_pixels", type=positive, default=pixels, help="of one picture (default: %(default)s)")
    for name, kind, text in (
        ("max_image_bytes", positive, "of one picture (default: %(default)s)"),
        ("parallel_fetches", positive, "fetches under way per worker (default: %(default)s)"),
        ("connections_per_host", positive, "at once, per worker (default: %(default)s)"),
        ("connect_timeout_s", seconds, "default: %(default)s"),
        ("read_timeout_s", seconds, "default: %(default)s"),
        ("deadline_s", seconds, "for one picture, retries included (default: %(default)s)"),
        ("attempts", positive, "tries per picture when a server is busy or fails (default: %(default)s)"),
    ):
        group.add_argument(f"--{name}", type=kind, default=getattr(default, name), help=text)


def run_embed(flags: argparse.Namespace, beam_flags: list[str]) -> int:
    """Runs `shelfmark embed`.

    Raises:
        UserError, StoreError, GateRefused: See `embed_catalog`.
    """
    store = Store(flags.store)
    manifest = embed_catalog(flags, beam_flags, store)
    if flags.format == "json":
        print(json.dumps(snapshot_document(store, manifest), indent=2, ensure_ascii=False))
    else:
        print(snapshot_table(store, manifest))
    return 0


def embed_catalog(
    flags: argparse.Namespace,
    beam_flags: list[str],
    store: Store,
    *,
    only_if_changed: bool = False,
    least_rows: int = 0,
) -> SnapshotManifest:
    """Embeds what the flags say.

    Args:
        flags: As `add_embedding_flags` has them.
        beam_flags: Those for Beam.
        store: Gets the snapshot.
        only_if_changed: See SnapshotRequest.
        least_rows: See SnapshotRequest.

    Returns:
        As `pipelines.embed.embed`.

    Raises:
        UserError: A flag, the catalog or the store is wrong.
        GateRefused: Too many rows were rejected; nothing was committed.
        StoreError: The run failed.
    """
    beam_options, hints = parse_beam_flags(beam_flags), _resource_hints(flags)
    aside = setting_aside(store, LOG.warning)
    while True:
        snapshot, now = embed.started_now()
        catalog = open_flagged_catalog(flags, store, snapshot)
        store.check_writable()
        source, previous, why_none = choose_encoder(flags, store, store, aside)
        if why_none:
            LOG.info(why_none)
        request = SnapshotRequest(
            snapshot, catalog.uri, now.isoformat(), flags.max_reject_ratio, only_if_changed, least_rows
        )
        options = _embed_options(flags, hints, catalog, source, previous)
        try:
            with tempfile.TemporaryDirectory(prefix="shelfmark-") as scratch:
                progress = Path(scratch, "progress")
                progress.touch()
                options = dataclasses.replace(options, progress=ProgressFile(str(progress)))
                return embed.embed(catalog, source, store, request, options, beam_options)
        except StoreError:
            if previous is None or not is_rotten(store, previous.name, aside):
                raise  # else once more, with what is whole


def _embed_options(
    flags: argparse.Namespace,
    hints: tuple[tuple[str, str], ...],
    catalog: Catalog,
    source: KerasEncoderSource,
    previous: PreviousSnapshot | None,
) -> EmbedOptions:
    return EmbedOptions(
        base=catalog.base,
        decode=DecodeOptions(source.image_size, flags.resize, flags.max_pixels),
        fetch=_fetch_options(flags),
        resource_hints=hints,
        previous=previous,
        max_stale_runs=flags.max_stale_runs,
    )


def open_flagged_catalog(flags: argparse.Namespace, scratch: Store, snapshot: str) -> Catalog:
    """The catalog that the flags name; a table behind http(s) is copied to `scratch`.

    Raises:
        UserError: It cannot be had, or is no catalog.
    """
    fetcher = ImageFetcher(
        FetchOptions(max_image_bytes=_MAX_TABLE_BYTES, max_in_flight_bytes=_MAX_TABLE_BYTES, deadline_s=600.0)
    )
    try:
        return embed.open_catalog(_absolute(flags.catalog), scratch, snapshot, fetcher.fetch)
    finally:
        fetcher.close()


def _absolute(catalog: str) -> str:
    """A relative path means another catalog in another folder, where the next run, or a page's pictures, may start."""
    return catalog if "://" in catalog else os.path.abspath(catalog)


def choose_encoder(
    flags: argparse.Namespace, store: Store, scratch: Store, on_damage: OnDamage
) -> tuple[KerasEncoderSource, PreviousSnapshot | None, str]:
    """The encoder that the flags name, its weights put into `scratch`, and the snapshot whose embeddings it can use.

    Of snapshots that are not whole `on_damage` is told.

    Returns:
        The encoder, the snapshot or None, and why there is none where one would be expected.

    Raises:
        UserError: The encoder cannot be had.
        StoreError: The store cannot be read, or a snapshot is of another format.
    """
    encoder = embed.EncoderRequest(**{name: getattr(flags, name) for name in _ENCODER_FLAGS})
    source, weights = embed.prepare_encoder(scratch, encoder)
    if not weights.trained:
        LOG.warning(f"The weights ({weights.label}) are untrained: similarities will mean nothing.")
    if flags.full:
        return source, None, ""
    previous, source, why_none = choose_previous(store, source, on_damage)
    return source, previous, why_none


def _fetch_options(flags: argparse.Namespace) -> FetchOptions:
    in_flight = max(FetchOptions().max_in_flight_bytes, flags.max_image_bytes)
    return FetchOptions(max_in_flight_bytes=in_flight, **{name: getattr(flags, name) for name in _FETCH_FLAGS})


def _resource_hints(flags: argparse.Namespace) -> tuple[tuple[str, str], ...]:
    from apache_beam.transforms.resources import parse_resource_hints

    hints = tuple((name, getattr(flags, name)) for name in ("min_ram", "accelerator") if getattr(flags, name))
    try:
        parse_resource_hints(dict(hints))
    except ValueError as error:
        raise UserError(f"{error}; see shelfmark {flags.command} --help") from error
    return hints
