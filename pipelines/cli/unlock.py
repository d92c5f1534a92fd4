"""`shelfmark unlock`."""

from __future__ import annotations

import argparse
import dataclasses

from pipelines.cli.console import show, show_document
from pipelines.cli.flag_types import Parser, add_output_flags
from store.lease_breaking import break_lease
from store.location import Store
from store.process import utc_now


def add_flags(parser: Parser) -> None:
    """Whose lease."""
    parser.add_argument("--store", required=True, metavar="URI", help="where the lease lies")
    parser.add_argument("--force", action="store_true", help="also from a run that is alive, or a file nobody can read")
    add_output_flags(parser)


def run(flags: argparse.Namespace, beam_flags: list[str]) -> int:
    """Shows who holds the lease and takes it away; nothing to unlock is fine.

    Raises:
        UserError: Its holder is alive, or the file is no lease; and no --force.
        StoreError: The store cannot be read or written, or the lease changed at this moment.
    """
    del beam_flags  # takes none
    unlocked = break_lease(Store(flags.store), utc_now(), force=flags.force)
    if flags.format == "json":
        show_document(dataclasses.asdict(unlocked))
    else:
        show(unlocked.found)
    return 0
