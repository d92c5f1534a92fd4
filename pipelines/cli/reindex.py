"""`shelfmark reindex`, for any scheduler."""

from __future__ import annotations

import argparse
import contextlib
import signal
from collections.abc import Iterator

from pipelines.cli.console import ProgressDisplay, show_result
from pipelines.cli.embedding_flags import add_embedding_flags
from pipelines.cli.flag_types import Parser, add_output_flags, money, positive, ratio, request_of, seconds_or_none
from pipelines.cli.index_flags import add_index_flags, add_publish_flag
from pipelines.reindex import reindex
from pipelines.reindex_plan import plan_reindex
from pipelines.requests import ReindexRequest


def add_flags(parser: Parser) -> None:
    """Those of `embed` and `index`, the gates, and what a scheduler wants."""
    add_embedding_flags(parser, ReindexRequest)
    add_index_flags(parser.add_argument_group("index"))
    _add_gates(parser.add_argument_group("gates; the published version stays where one refuses, exit 3"))
    _add_run(parser.add_argument_group("run"))
    add_output_flags(parser)


def _add_gates(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--max_shrink",
        type=ratio,
        default=ReindexRequest.max_shrink,
        metavar="SHARE",
        help="of the published version's pictures that may be lost (default: %(default)s)",
    )
    group.add_argument(
        "--min_overlap",
        type=ratio,
        default=ReindexRequest.min_overlap,
        metavar="SHARE",
        help="of their 10 nearest neighbours that unchanged pictures must keep (default: %(default)s)",
    )
    add_publish_flag(group)


def _add_run(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--wait",
        dest="wait_s",
        nargs="?",
        type=seconds_or_none,
        const=float("inf"),
        default=ReindexRequest.wait_s,
        metavar="SECONDS",
        help="for another run on this store to end; without a number for as long as it takes; default: not at all",
    )
    group.add_argument("--dry_run", action="store_true", help="change nothing in the store, say what would be done")
    group.add_argument(
        "--keep",
        type=positive,
        default=ReindexRequest.keep,
        metavar="N",
        help="newest versions to keep of those at their target, and as many of those under it (default: %(default)s)",
    )
    group.add_argument(
        "--notify", metavar="URL", help="where the run's record is posted as JSON, however it ends, unless it is killed"
    )
    group.add_argument("--metrics_file", metavar="FILE", help="for a Prometheus node exporter; its name ends in .prom")
    group.add_argument(
        "--cost_per_hour", type=money, metavar="PRICE", help="of the machine, to estimate what a run costs"
    )


def run(flags: argparse.Namespace, beam_flags: list[str]) -> int:
    """Brings the store up to date, or says what that would take, and prints a summary.

    Raises:
        UserError, StoreError, GateRefused: See `pipelines.reindex.reindex`.
    """
    request = request_of(ReindexRequest, flags, beam_flags=beam_flags)
    if flags.dry_run:
        show_result(plan_reindex(request), flags.format)
        return 0
    with _ended_by_sigterm():
        done = reindex(request, watch=ProgressDisplay)
    show_result(done, flags.format)
    return 0


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Lets a scheduler that stops the run (SIGTERM) end it as Ctrl-C does: lease given back, record written."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt("stopped by SIGTERM; the steps that were done are kept, the one that ran starts over")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
