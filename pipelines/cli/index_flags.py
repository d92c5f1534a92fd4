"""What says how an index is built and when it is published: flags of `index` and `reindex`."""

from __future__ import annotations

import argparse

from pipelines.cli.flag_types import positive, recall_target, size_bytes
from pipelines.requests import IndexRequest


def add_index_flags(parser: argparse._ActionsContainer) -> None:
    """What says how an index is built; `reindex` has them too."""
    parser.add_argument(
        "--target_recall",
        type=recall_target,
        default=IndexRequest.target_recall,
        help="recall@k to reach against exact search; under it nothing is published, exit 3 (default: %(default)s)",
    )
    parser.add_argument(
        "--k",
        type=positive,
        default=IndexRequest.k,
        help="neighbours that recall is measured over (default: %(default)s)",
    )
    parser.add_argument(
        "--dimensions", type=positive, metavar="D", help="of the projection; default: chosen by measurement"
    )
    parser.add_argument(
        "--memory_limit",
        dest="memory_limit_bytes",
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
