"""A whole re-indexing run with a fake encoder and a small exact index: real steps, real lease, real gates."""

from __future__ import annotations

import functools
from pathlib import Path

from fetch.trust import AUTO, Trust
from pipelines.reindex_steps import Reindexing, bring_up_to_date
from pipelines.requests import ReindexRequest
from pipelines.run_journal import RunJournal
from store.index import read_index_manifest
from store.lease import Lease
from store.location import Store
from store.publication import read_current
from store.runs import RunRecord
from store.snapshot import read_manifest
from tests.support.small_embed import embed_again, rows_of
from tests.support.versions import verify_files

REQUEST = ReindexRequest("", "", k=3, max_reject_ratio=1.0, max_shrink=0.5, min_overlap=0.2, keep=2)
"""Without a catalog and a store: those are arguments here."""


def new_run(store: Path, catalog: Path, request: ReindexRequest = REQUEST, trust: Trust = AUTO) -> Reindexing:
    """A run that has not started."""
    place = Store(str(store))
    return Reindexing(
        place,
        request,
        RunJournal(place, RunRecord.begin(str(catalog))),
        functools.partial(embed_again, catalog, store, only_if_changed=True, trust=trust),
        lambda _: None,
        lambda _: lambda _: None,
    )


def reindex(store: Path, catalog: Path, request: ReindexRequest = REQUEST, trust: Trust = AUTO) -> RunRecord:
    """One run under the store's lease."""
    run = new_run(store, catalog, request, trust)
    with Lease.acquire(Store(str(store))) as lease:
        bring_up_to_date(run, lease.check)
    return run.journal.record


def check_published(store: Path) -> str | None:
    """The published version, every file of it and of its snapshot as it was written, and both of the same rows."""
    place = Store(str(store))
    current = read_current(place)
    if current is None:
        return None
    manifest = read_index_manifest(place, current)
    verify_files(place, manifest)
    snapshot = read_manifest(place, manifest.snapshot)
    assert len(rows_of(store, snapshot)) == manifest.vectors
    return current
