"""`shelfmark prune`."""

from __future__ import annotations

import argparse

from pipelines.cli.console import show_result
from pipelines.cli.flag_types import Parser, add_output_flags, natural, positive, request_of
from pipelines.requests import PruneRequest
from pipelines.versions import prune


def add_flags(parser: Parser) -> None:
    """What stays."""
    parser.add_argument("--store", required=True, metavar="URI", help="where the indexes lie")
    parser.add_argument(
        "--keep",
        type=positive,
        required=True,
        metavar="N",
        help="newest versions to keep of those at their target, and as many of those under it; "
        "the published one and those being written stay in any case",
    )
    parser.add_argument(
        "--leftovers_after_hours",
        type=natural,
        default=PruneRequest.leftovers_after_hours,
        metavar="HOURS",
        help="what nobody finished is deleted when it was quiet for longer (default: %(default)s)",
    )
    parser.add_argument("--dry_run", action="store_true", help="delete nothing, say what would be")
    add_output_flags(parser)


def run(flags: argparse.Namespace, beam_flags: list[str]) -> int:
    """Deletes what nobody needs, or says what it would delete.

    Raises:
        UserError, StoreError: See `pipelines.versions.prune`.
    """
    del beam_flags  # takes none
    show_result(prune(request_of(PruneRequest, flags)), flags.format)
    return 0
