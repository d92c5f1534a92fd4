"""`shelfmark runs`: what each re-indexing run did, and what a million pictures cost."""

from __future__ import annotations

import argparse
import dataclasses
import json

from pipelines.console import align, show, show_document
from pipelines.flag_types import Commands, add_output_flags, positive
from store.location import Store
from store.process import is_running, this_host
from store.runs import SUCCESSES, RunRecord, read_runs

DIED = "died"
"""Shown for a run whose record says that it runs, while its process on this machine is gone."""

_LAST = 20
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


def add_runs(commands: Commands) -> None:
    """`shelfmark runs`."""
    summary = "list what the re-indexing runs of a store did"
    parser = commands.add_parser("runs", help=summary, description=summary, allow_abbrev=False)
    parser.add_argument("--store", required=True, metavar="URI", help="where the runs were recorded")
    parser.add_argument(
        "--last", type=positive, default=_LAST, metavar="N", help="newest runs to show (default: %(default)s)"
    )
    add_output_flags(parser)


def run_runs(flags: argparse.Namespace) -> int:
    """Lists the newest runs, oldest first.

    Raises:
        StoreError: The store cannot be read.
    """
    store = Store(flags.store)
    records = [as_seen_from_here(record) for record in read_runs(store, flags.last)]
    if flags.format == "json":
        runs = [json.loads(record.to_json()) for record in records]
        show_document({"runs": runs})
    else:
        show(runs_table(store, records))
    return 0


def as_seen_from_here(record: RunRecord) -> RunRecord:
    """The record, its outcome `died` where it says that it runs and its process on this machine is gone."""
    gone = record.outcome == "running" and record.host == this_host() and not is_running(record.pid)
    return dataclasses.replace(record, outcome=DIED) if gone else record


def runs_table(store: Store, records: list[RunRecord]) -> str:
    """A line for each run, and beneath them what the last one has to say if it did not end well."""
    if not records:
        return f"no runs in {store.uri}; make one with shelfmark reindex --store {store.uri}"
    lines = align([_HEAD, *map(_cells, records)])
    newest = records[-1]
    if newest.message and newest.outcome not in SUCCESSES:
        lines.append(f"{newest.run} {newest.outcome}: {' '.join(newest.message.split())}")
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
