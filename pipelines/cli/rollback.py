"""`shelfmark rollback`."""

from __future__ import annotations

import argparse

from pipelines.cli.console import show_result
from pipelines.cli.flag_types import Parser, add_output_flags
from pipelines.versions import rollback


def add_flags(parser: Parser) -> None:
    """Which version."""
    parser.add_argument("--store", required=True, metavar="URI", help="where the indexes lie")
    parser.add_argument(
        "--to",
        metavar="VERSION",
        help="default: the newest at its target that is older than the published one",
    )
    add_output_flags(parser)


def run(flags: argparse.Namespace, beam_flags: list[str]) -> int:
    """Publishes another version than the one that is.

    Raises:
        UserError, StoreError: See `pipelines.versions.rollback`.
    """
    del beam_flags  # takes none
    show_result(rollback(flags.store, flags.to), flags.format)
    return 0
