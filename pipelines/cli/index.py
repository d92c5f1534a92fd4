"""`shelfmark index`."""

from __future__ import annotations

import argparse

from index_builder.build import check_index
from pipelines.cli.console import show, show_document, show_result
from pipelines.cli.flag_types import Parser, add_output_flags, request_of
from pipelines.cli.index_flags import add_index_flags, add_publish_flag
from pipelines.cli.trust_flags import add_trust_flags
from pipelines.index import build_index
from pipelines.log import LOG
from pipelines.requests import IndexRequest
from store.errors import UserError
from store.location import Store


def add_flags(parser: Parser) -> None:
    """Which snapshot, how its index is built, or which version is checked."""
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


def run(flags: argparse.Namespace, beam_flags: list[str]) -> int:
    """Builds and publishes, or checks, and prints a summary.

    Raises:
        UserError, StoreError, GateRefused: See `build_index` and `check_index`.
    """
    if beam_flags and not flags.beam:
        raise UserError(f"unknown flag {beam_flags[0]}; see shelfmark index --help (Beam's flags need --beam)")
    if flags.check:
        return _check(flags)
    if flags.version:
        raise UserError("--version goes with --check; a new version gets its name from the time")
    show_result(build_index(request_of(IndexRequest, flags, beam_flags=beam_flags)), flags.format)
    return 0


def _check(flags: argparse.Namespace) -> int:
    checked = check_index(Store(flags.store), flags.version, LOG.info)
    if flags.format == "json":
        show_document(checked.to_dict())
    else:
        show(
            f"{checked.version}: every file is as it was written; recall {checked.measured:.4f} over "
            f"{checked.queries:,} queries, {checked.stated:.4f} when it was built, target {checked.target}"
        )
    return 0
