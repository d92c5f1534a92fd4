"""A store is brought up to date with its catalog at the cost of the change: the use case behind `shelfmark reindex`."""

from __future__ import annotations

import functools
import os

from pipelines.embed import embed_catalog
from pipelines.embed_pipeline import WatchProgress, nobody_watches
from pipelines.log import LOG
from pipelines.notify import check_notify_url
from pipelines.reindex_steps import Reindexing, bring_up_to_date
from pipelines.requests import ReindexRequest
from pipelines.results import Reindexed
from pipelines.run_journal import RunJournal
from pipelines.run_metrics import check_metrics_file
from pipelines.thumbnails import open_index_thumbnails
from store.lease import Lease
from store.location import Store
from store.publication import read_published
from store.runs import RunRecord


def reindex(request: ReindexRequest, *, watch: WatchProgress = nobody_watches) -> Reindexed:
    """Embeds what changed, builds a version, publishes it if it passes its gates, and deletes what is old.

    Args:
        request: What to make, and what it may publish.
        watch: Shows the progress of embedding on this machine.

    Raises:
        UserError: A choice, the catalog or the store is wrong.
        GateRefused: A gate refused; what is published stays.
        StoreError: Another run holds the store, or a step failed; the run's record says what is published.
    """
    if request.notify:
        check_notify_url(request.notify)
    if request.metrics_file:
        check_metrics_file(request.metrics_file)
    store = Store(os.fspath(request.store))
    run = Reindexing(
        store,
        request,
        RunJournal(store, RunRecord.begin(os.fspath(request.catalog))),
        functools.partial(embed_catalog, request.catalog, request, store, only_if_changed=True, watch=watch),
        LOG.info,
        functools.partial(open_index_thumbnails, store, request.trusted()),
    )
    with run.journal.told(request.notify, request.metrics_file), acquire_lease(store, request.wait_s) as lease:
        bring_up_to_date(run, lease.check, lease.fence)
    return Reindexed(run.journal.record)


def acquire_lease(store: Store, wait_s: float) -> Lease:
    """The store's lease, its number above that of the last publication.

    Raises:
        LeaseHeld: Another run has it, and had it for as long as this one would wait.
    """
    published = read_published(store)
    return Lease.acquire(store, wait_s=wait_s, fence_above=published.fence if published else 0, say=LOG.info)
