"""`shelfmark unlock`: takes the lease of a store away from a run that is gone, or whose clock is far ahead."""

from __future__ import annotations

import argparse
import dataclasses

from pipelines.console import show, show_document
from pipelines.flag_types import Commands, add_output_flags
from store.lease_breaking import break_lease
from store.location import Store
from store.process import utc_now


def add_unlock(commands: Commands) -> None:
    """`shelfmark unlock`."""
    summary = "take the lease of a store away from a run that is gone, or whose clock is far ahead"
    parser = commands.add_parser("unlock", help=summary, description=summary, allow_abbrev=False)
    parser.add_argument("--store", required=True, metavar="URI", help="where the lease lies")
    parser.add_argument("--force", action="store_true", help="also from a run that is alive, or a file nobody can read")
    add_output_flags(parser)


def run_unlock(flags: argparse.Namespace) -> int:
    """Shows who holds the lease and takes it away; nothing to unlock is fine.

    Raises:
        UserError: Its holder is alive, or the file is no lease; and no --force.
        StoreError: The store cannot be read or written, or the lease changed at this moment.
    """
    unlocked = break_lease(Store(flags.store), utc_now(), force=flags.force)
    if flags.format == "json":
        show_document(dataclasses.asdict(unlocked))
    else:
        show(unlocked.found)
    return 0
