"""`shelfmark rejects`: the rows that have no embedding, and why."""

from __future__ import annotations

import argparse

from pipelines.cli.console import align, show, show_document
from pipelines.cli.flag_types import Parser, add_output_flags, positive, request_of
from pipelines.rejects import Rejects, RejectsRequest, list_rejects
from store.rejects import Reason


def add_flags(parser: Parser) -> None:
    """Which snapshot, which reason."""
    parser.add_argument("--store", required=True, metavar="URI", help="where the snapshots lie")
    parser.add_argument("--snapshot", metavar="NAME", help="default: the newest, also one that a gate refused")
    parser.add_argument("--reason", choices=[reason.value for reason in Reason], help="only rows rejected for this")
    parser.add_argument(
        "--limit",
        type=positive,
        default=RejectsRequest.limit,
        metavar="N",
        help="rows to show at most (default: %(default)s)",
    )
    add_output_flags(parser)


def run(flags: argparse.Namespace, beam_flags: list[str]) -> int:
    """Lists rejected rows in the order of their files.

    Raises:
        UserError, StoreError: See `list_rejects`.
    """
    del beam_flags  # takes none
    rejects = list_rejects(request_of(RejectsRequest, flags))
    if flags.format == "json":
        show_document(rejects.to_dict())
    else:
        show(_table(rejects))
    return 0


def _table(rejects: Rejects) -> str:
    if not rejects.rows:
        return f"no row of snapshot {rejects.snapshot} was rejected"
    head = ("image_id", "item_id", "stage", "reason", "image_uri", "detail")
    lines = align([head, *([str(row[name]) for name in head] for row in rejects.rows)])
    if rejects.count > len(rejects.rows):
        lines.append(f"and {rejects.count - len(rejects.rows):,} more; --limit shows them")
    return "\n".join(lines)
