"""`shelfmark reindex`: brings a store up to date with its catalog at the cost of the change, for any scheduler."""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import signal
from collections.abc import Iterator
from typing import Any

from index_builder.build import IndexRequest
from pipelines.console import LOG, show, show_document
from pipelines.embed_command import add_embedding_flags, embed_catalog
from pipelines.flag_types import Commands, Parser, add_output_flags, money, positive, ratio, seconds_or_none
from pipelines.index import add_index_flags, add_publish_flag
from pipelines.notify import check_notify_url, notify
from pipelines.reindex_plan import plan_reindex
from pipelines.reindex_run import ReindexRequest, ReindexRun
from pipelines.run_metrics import check_metrics_file, write_metrics_file
from pipelines.summary import why_not_allowed
from pipelines.thumbnails import open_index_thumbnails
from pipelines.trust import trust_of
from store.errors import GateRefused, StoreError
from store.lease import Lease, LeaseHeld
from store.location import Store
from store.process import utc_now
from store.publication import read_published
from store.runs import RunRecord

DEFAULT_MAX_SHRINK = 0.1
DEFAULT_MIN_OVERLAP = 0.5
DEFAULT_KEEP = 3


def add_reindex(commands: Commands) -> None:
    """Flags of `shelfmark reindex`."""
    summary = "embed what changed, update the index, publish it if it passes its gates, delete what is old"
    parser: Parser = commands.add_parser(
        "reindex",
        help=summary,
        description=summary,
        epilog="Flags that are not listed go to Apache Beam: --runner, --direct_num_workers, --project, ...",
        allow_abbrev=False,
    )
    add_embedding_flags(parser)
    add_index_flags(parser.add_argument_group("index"))
    _add_gates(parser.add_argument_group("gates; the published version stays where one refuses, exit 3"))
    _add_run(parser.add_argument_group("run"))
    add_output_flags(parser)


def _add_gates(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--max_shrink",
        type=ratio,
        default=DEFAULT_MAX_SHRINK,
        metavar="SHARE",
        help="of the published version's pictures that may be lost (default: %(default)s)",
    )
    group.add_argument(
        "--min_overlap",
        type=ratio,
        default=DEFAULT_MIN_OVERLAP,
        metavar="SHARE",
        help="of their 10 nearest neighbours that unchanged pictures must keep (default: %(default)s)",
    )
    add_publish_flag(group)


def _add_run(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--wait",
        nargs="?",
        type=seconds_or_none,
        const=float("inf"),
        default=0.0,
        metavar="SECONDS",
        help="for another run on this store to end; without a number for as long as it takes; default: not at all",
    )
    group.add_argument("--dry_run", action="store_true", help="change nothing in the store, say what would be done")
    group.add_argument(
        "--keep",
        type=positive,
        default=DEFAULT_KEEP,
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


def run_reindex(flags: argparse.Namespace, beam_flags: list[str]) -> int:
    """Runs `shelfmark reindex`.

    Raises:
        UserError: A flag, the catalog or the store is wrong.
        GateRefused: A gate refused; what is published stays.
        StoreError: Another run holds the store, or a step failed; the run's record says what is published.
    """
    store = Store(flags.store)
    if flags.dry_run:
        plan = plan_reindex(flags, beam_flags, store)
        if flags.format == "json":
            show_document(plan.to_dict())
        else:
            show(plan.describe())
        return 0
    if flags.notify:
        check_notify_url(flags.notify)
    if flags.metrics_file:
        check_metrics_file(flags.metrics_file)
    run = ReindexRun(
        store,
        _request(flags),
        RunRecord.begin(flags.catalog),
        embed=lambda least: embed_catalog(flags, beam_flags, store, only_if_changed=True, least_rows=least),
        say=LOG.info,
        thumbnails_of=functools.partial(open_index_thumbnails, store, trust_of(flags)),
    )
    with _told(run, flags), _ended_by_sigterm(), _acquire(store, flags.wait) as lease:
        run.run(lease.check, lease.fence)
    if flags.format == "json":
        show_document(json.loads(run.record.to_json()))
    else:
        show(_summary(run.record))
    return 0


def _acquire(store: Store, wait_s: float) -> Lease:
    published = read_published(store)
    return Lease.acquire(store, wait_s=wait_s, fence_above=published.fence if published else 0, say=LOG.info)


def _request(flags: argparse.Namespace) -> ReindexRequest:
    index = IndexRequest(
        target_recall=flags.target_recall,
        k=flags.k,
        memory_limit_bytes=flags.memory_limit,
        dimensions=flags.dimensions,
        workers=flags.workers,
    )
    return ReindexRequest(
        index,
        flags.max_reject_ratio,
        flags.max_shrink,
        flags.min_overlap,
        flags.keep,
        flags.cost_per_hour,
        flags.publish,
    )


@contextlib.contextmanager
def _told(run: ReindexRun, flags: argparse.Namespace) -> Iterator[None]:
    """Sees to it that however a run ends, its record, its metrics and its notification say so."""
    try:
        yield
    except BaseException as error:
        published = run.record.outcome == "published"
        _tell(run, flags, "published" if published else _outcome_of(error), _one_line(error))
        raise
    _tell(run, flags, run.record.outcome, run.record.message)


def _outcome_of(error: BaseException) -> str:
    if isinstance(error, GateRefused):
        return "refused"
    if isinstance(error, LeaseHeld):
        return "held_off"
    return "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _tell(run: ReindexRun, flags: argparse.Namespace, outcome: str, message: str) -> None:
    now = utc_now()
    try:
        run.note(outcome=outcome, message=message, ended_at=now.isoformat())
    except StoreError as error:  # the run has ended as it has: what cannot be written down must not hide that
        LOG.warning(f"the run's record could not be written: {error}")
    if flags.metrics_file:
        try:
            write_metrics_file(flags.metrics_file, run.record, now)
        except StoreError as error:
            LOG.warning(f"--metrics_file: {error}")
    if flags.notify:
        failure = notify(flags.notify, run.record)
        if failure:
            LOG.warning(f"--notify: {failure}")


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


def _summary(record: RunRecord) -> str:
    counts: dict[str, Any] = record.counts
    lines = [
        ("rows", f"{counts['catalog_rows']:,}"),
        ("embedded", f"{counts['embedded']:,}"),
        ("reused", f"{counts['reused']:,} ({counts['stale']:,} stale)"),
        ("rejected", f"{counts['rejected']:,}"),
        *((("", why),) if (why := why_not_allowed(record.rejected_by_reason)) else ()),
        ("snapshot", record.snapshot),
    ]
    if record.recall:
        lines.append((f"recall@{record.recall.k}", f"{record.recall.measured:.4f}"))
    lines.append(("seconds", ", ".join(f"{step} {spent:.1f}" for step, spent in record.seconds.items())))
    if record.outcome == "published":
        lines.append(("published", f"{record.version} (before: {record.published_before or 'nothing'})"))
    else:
        lines.append(("nothing to do", f"{record.published_before} is up to date"))
    return "\n".join(f"{name:<14}{value}" for name, value in lines)
