"""Shelfmark's own flags."""

from __future__ import annotations

from pipelines.demo import add_demo
from pipelines.embed_command import add_embed
from pipelines.evaluate import add_evaluate
from pipelines.flag_types import (
    Commands,
    Parser,
    add_doctor,
    add_output_flags,
    natural,
    new_parser,
    positive,
)
from pipelines.index import add_index
from pipelines.reindex import add_reindex
from pipelines.runs import add_runs
from pipelines.search import add_search
from pipelines.serve import add_serve
from pipelines.unlock import add_unlock
from pipelines.versions import add_prune, add_rollback, add_versions


def build_parser() -> Parser:
    """The whole command line."""
    parser, commands = new_parser()
    add_demo(commands)
    _add_sample_catalog(commands)
    for add in (
        add_embed,
        add_index,
        add_search,
        add_evaluate,
        add_versions,
        add_rollback,
        add_prune,
        add_reindex,
        add_runs,
        add_unlock,
        add_serve,
    ):
        add(commands)
    add_doctor(commands)
    return parser


def _add_command(commands: Commands, name: str, summary: str, epilog: str = "") -> Parser:
    return commands.add_parser(name, help=summary, description=summary, epilog=epilog, allow_abbrev=False)


def _add_sample_catalog(commands: Commands) -> None:
    parser = _add_command(commands, "sample-catalog", "draw a catalog of made-up products")
    parser.add_argument("directory", metavar="DIR", help="where the pictures and catalog.csv go")
    parser.add_argument("--items", type=positive, default=100, help="products to draw (default: %(default)s)")
    parser.add_argument("--views", type=positive, default=3, help="pictures of each (default: %(default)s)")
    parser.add_argument("--seed", type=natural, default=0, help="same seed, same bytes (default: %(default)s)")
    add_output_flags(parser)
