"""The calls that the tests of durability make to publish, in one place: the rest of them knows only files."""

from __future__ import annotations

import argparse
import contextlib
import io

from pipelines.reindex_run import ReindexRun
from pipelines.versions import run_rollback
from store.lease import Clock, Lease
from store.location import Store
from store.publication import publish, read_current, read_published


def publish_now(store: Store, version: str) -> None:
    """Publishes a version over what is published at this moment."""
    publish(store, version, over=read_published(store), by="index")


def published(store: Store) -> str | None:
    """What CURRENT names; None where there is none."""
    return read_current(store)


def roll_back(store: Store, to: str | None) -> None:
    """What `shelfmark rollback` does, without what it prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        run_rollback(argparse.Namespace(store=store.uri, to=to, format="json"))


def acquire_lease(store: Store, clock: Clock) -> Lease:
    """The lease as a run takes it: with a number above that of the last publication."""
    over = read_published(store)
    return Lease.acquire(store, clock=clock, fence_above=over.fence if over else 0)


def run_under(run: ReindexRun, lease: Lease) -> None:
    """Does a run under a lease."""
    run.run(lease.check, lease.fence)
