"""`shelfmark sample-catalog`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipelines.cli.console import show, show_document
from pipelines.cli.flag_types import Parser, add_output_flags, natural, positive
from samples.catalog import draw_catalog


def add_flags(parser: Parser) -> None:
    """Where to and how much."""
    parser.add_argument("directory", metavar="DIR", help="where the pictures and catalog.csv go")
    parser.add_argument("--items", type=positive, default=100, help="products to draw (default: %(default)s)")
    parser.add_argument("--views", type=positive, default=3, help="pictures of each (default: %(default)s)")
    parser.add_argument("--seed", type=natural, default=0, help="same seed, same bytes (default: %(default)s)")
    add_output_flags(parser)


def run(flags: argparse.Namespace, beam_flags: list[str]) -> int:
    """Draws the catalog."""
    del beam_flags  # takes none
    table = draw_catalog(
        Path(flags.directory), items=flags.items, views=flags.views, seed=flags.seed, progress=_show_progress
    )
    pictures = flags.items * flags.views
    if flags.format == "json":
        show_document({"catalog": str(table), "pictures": pictures})
    else:
        show(f"{pictures:,} pictures of {flags.items:,} items: {table}")
    return 0


def _show_progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[Kdrawing {done:,} of {total:,} pictures" if done < total else "\r\033[K")
