"""`shelfmark index`: a snapshot becomes a published index."""

from __future__ import annotations

import argparse
import functools
import json
from typing import Any

from pipelines.console import LOG, show, show_document
from pipelines.flag_types import Commands, Parser, add_output_flags, positive, recall_target, size_bytes
from pipelines.trust import add_trust_flags, trust_of
from store.errors import UserError
from store.index import IndexManifest, version_folder
from store.location import Store
from store.measured import ExactConfig


def add_index(commands: Commands) -> None:
    """Flags of `shelfmark index`."""
    summary = "build the ScaNN index of a snapshot, measure it, publish it"
    parser: Parser = commands.add_parser("index", help=summary, description=summary, allow_abbrev=False)
    parser.add_argument("--store", required=True, metavar="URI", help="folder, gs:// or s3:// with the snapshot")
    parser.add_argument("--snapshot", metavar="NAME", help="default: the newest")
    add_index_flags(parser)
    add_publish_flag(parser)
    parser.add_argument(
        "--beam",
        action="store_true",
        help="build all shards but the first on Beam workers; flags that are not listed then go to Beam",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="build nothing: repeat the published version's measurement (or --version's), digests and all",
    )
    parser.add_argument("--version", metavar="NAME", help="with --check: the version")
    add_trust_flags(parser)
    add_output_flags(parser)


def add_index_flags(parser: argparse._ActionsContainer) -> None:
    """What says how an index is built; `reindex` has them too."""
    parser.add_argument(
        "--target_recall",
        type=recall_target,
        default=0.95,
        help="recall@k to reach against exact search; under it nothing is published, exit 3 (default: %(default)s)",
    )
    parser.add_argument(
        "--k", type=positive, default=10, help="neighbours that recall is measured over (default: %(default)s)"
    )
    parser.add_argument(
        "--dimensions", type=positive, metavar="D", help="of the projection; default: chosen by measurement"
    )
    parser.add_argument(
        "--memory_limit",
        type=size_bytes,
        metavar="SIZE",
        help="such as 6GiB; a larger catalog is split into more shards; default: four fifths of what is free",
    )
    parser.add_argument("--workers", type=positive, metavar="N", help="shards built at once; default: a processor each")


def add_publish_flag(parser: argparse._ActionsContainer) -> None:
    """What lets `index` and `reindex` publish over a person's rollback."""
    parser.add_argument(
        "--publish",
        action="store_true",
        help="also over a version that a person rolled back to; without it such a rollback stands, exit 3",
    )


def run_index(flags: argparse.Namespace, beam_flags: list[str]) -> int:
    """Runs `shelfmark index`.

    Raises:
        UserError, StoreError, GateRefused: See `build_index` and `check_index`.
    """
    if beam_flags and not flags.beam:
        raise UserError(f"unknown flag {beam_flags[0]}; see shelfmark index --help (Beam's flags need --beam)")
    store = Store(flags.store)
    if flags.check:
        return _check(flags, store)
    if flags.version:
        raise UserError("--version goes with --check; a new version gets its name from the time")
    from index_builder.build import IndexRequest, build_index
    from pipelines.thumbnails import open_index_thumbnails

    store.check_writable()
    request = IndexRequest(
        snapshot=flags.snapshot,
        target_recall=flags.target_recall,
        k=flags.k,
        memory_limit_bytes=flags.memory_limit,
        dimensions=flags.dimensions,
        workers=flags.workers,
    )
    run_shards = None
    if flags.beam:
        from pipelines.beam_flags import parse_beam_flags
        from pipelines.index_shards import shards_on_beam

        run_shards = shards_on_beam(parse_beam_flags(beam_flags))
    manifest = build_index(
        store,
        request,
        LOG.info,
        run_shards=run_shards,
        thumbnails_of=functools.partial(open_index_thumbnails, store, trust_of(flags)),
        over_rollback=flags.publish,
    )
    if flags.format == "json":
        show_document(_document(store, manifest))
    else:
        show(index_table(store, manifest))
    return 0


def _check(flags: argparse.Namespace, store: Store) -> int:
    from index_builder.build import check_index

    checked = check_index(store, flags.version, LOG.info)
    text = (
        f"{checked.version}: every file is as it was written; recall {checked.measured:.4f} over {checked.queries:,} "
        f"queries, {checked.stated:.4f} when it was built, target {checked.target}"
    )
    if flags.format == "json":
        show_document(checked.to_dict())
    else:
        show(text)
    return 0


def _document(store: Store, manifest: IndexManifest) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(manifest.to_json())
    return {"path": store.full_path(version_folder(manifest.version)), **fields}


def index_table(store: Store, manifest: IndexManifest) -> str:
    """A short table: vectors, recall, speed, memory, where the version and its report are."""
    recall, latency, config = manifest.recall, manifest.latency, manifest.config
    folder = store.full_path(version_folder(manifest.version))
    if isinstance(config, ExactConfig):
        how = "every vector compared"
    else:
        how = (
            f"{config.dimensions} dimensions, {len(manifest.shards)} shards of {config.leaves} leaves, "
            f"{config.leaves_to_search} searched, {config.candidates} ranked again"
        )
    lines = [
        ("vectors", f"{manifest.vectors:,}"),
        (
            f"recall@{recall.k}",
            f"{recall.measured:.4f} (target {recall.target}, {recall.queries or 0:,} queries)",
        ),
        ("one query", f"{latency.single_ms_p50:.3f} ms, 99% within {latency.single_ms_p99:.3f} ms"),
        ("queries/s", f"{latency.queries_per_s:,.0f} alone, {latency.batch_queries_per_s:,.0f} in batches"),
        ("settings", how),
        ("memory", f"{manifest.memory_bytes / 2**20:,.1f} MiB, the rest memory-mapped"),
        ("bytes", f"{sum(file.bytes for file in manifest.files):,} in {len(manifest.files)} files"),
        ("seconds", f"{manifest.timing['seconds']:.1f}"),
        ("report", f"{folder}/report.html"),
        ("published", folder),
    ]
    return "\n".join(f"{name:<14}{value}" for name, value in lines)
