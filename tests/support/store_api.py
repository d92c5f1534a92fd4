"""The calls that the tests of durability make to publish, in one place: the rest of them knows only files."""

from __future__ import annotations

from pipelines.reindex_steps import Reindexing, bring_up_to_date
from pipelines.versions import rollback
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
    """What `shelfmark rollback` does."""
    rollback(store.uri, to)


def acquire_lease(store: Store, clock: Clock) -> Lease:
    """The lease as a run takes it: with a number above that of the last publication."""
    over = read_published(store)
    return Lease.acquire(store, clock=clock, fence_above=over.fence if over else 0)


def run_under(run: Reindexing, lease: Lease) -> None:
    """Does a run under a lease."""
    bring_up_to_date(run, lease.check, lease.fence)
