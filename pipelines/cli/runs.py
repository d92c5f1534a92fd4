"""`shelfmark runs`: what each re-indexing run did, and what a million pictures cost."""

from __future__ import annotations

import argparse

from pipelines.cli.console import align, show, show_document
from pipelines.cli.flag_types import Parser, add_output_flags, positive, request_of
from pipelines.runs import Runs, RunsRequest, list_runs
from store.runs import SUCCESSES, RunRecord

_HEAD = (
    "run",
    "outcome",
    "rows",
    "embedded",
    "reused",
    "rejected",
    "recall",
    "published version",
    "seconds",
    "cost per million",
)


def add_flags(parser: Parser) -> None:
    """Which runs."""
    parser.add_argument("--store", required=True, metavar="URI", help="where the runs were recorded")
    parser.add_argument(
        "--last",
        type=positive,
        default=RunsRequest.last,
        metavar="N",
        help="newest runs to show (default: %(default)s)",
    )
    add_output_flags(parser)


def run(flags: argparse.Namespace, beam_flags: list[str]) -> int:
    """Lists the newest runs, oldest first.

    Raises:
        StoreError: The store cannot be read.
    """
    del beam_flags  # takes none
    runs = list_runs(request_of(RunsRequest, flags))
    if flags.format == "json":
        show_document(runs.to_dict())
    else:
        show(runs_table(runs))
    return 0


def runs_table(runs: Runs) -> str:
    """A line for each run, and beneath them why each that did not end well ended so."""
    if not runs.records:
        return f"no runs in {runs.store_uri}; make one with shelfmark reindex --store {runs.store_uri}"
    lines = align([_HEAD, *map(_cells, runs.records)])
    for record in runs.records:
        if record.message and record.outcome not in SUCCESSES:
            lines.append(f"{record.run} {record.outcome}: {' '.join(record.message.split())}")
    return "\n".join(lines)


def _cells(record: RunRecord) -> tuple[str, ...]:
    counts = (record.counts.get(name) for name in ("catalog_rows", "embedded", "reused", "rejected"))
    seconds = record.total_seconds
    return (
        record.run,
        record.outcome,
        *("-" if count is None else f"{count:,}" for count in counts),
        _recall(record),
        (record.version if record.outcome == "published" else None) or "-",
        "-" if seconds is None else f"{seconds:,.1f}",
        _cost(record),
    )


def _recall(record: RunRecord) -> str:
    return "-" if record.recall is None else f"{record.recall.measured:.4f}"


def _cost(record: RunRecord) -> str:
    """In the currency of --cost_per_hour, or in machine hours where no price was given."""
    if record.cost.per_million is not None:
        return f"{record.cost.per_million:,.2f}"
    if record.cost.machine_hours_per_million is not None:
        return f"{record.cost.machine_hours_per_million:,.2f} machine hours"
    return "-"
