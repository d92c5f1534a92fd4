"""What is in a store, which of it is published, what may go: behind `shelfmark versions`, `rollback` and `prune`."""

from __future__ import annotations

import dataclasses
import datetime
import os
from typing import Any

from pipelines.log import LOG
from pipelines.requests import PruneRequest, Uri
from pipelines.results import Lines, Result
from store.building import read_sign
from store.damage import ignore, whole_versions
from store.errors import StoreError, UserError
from store.index import IndexManifest, read_index_manifest, version_folder
from store.location import Store
from store.process import utc_now
from store.prune import Pruned, plan_prune
from store.prune import prune as prune_store
from store.publication import Published, last_published, publish, read_current, read_published
from store.snapshot import SNAPSHOT_NAME


@dataclasses.dataclass(frozen=True, slots=True)
class VersionState:
    """A line of `shelfmark versions`.

    Attributes:
        version: Its name.
        state: published, kept (at its target, not published), under target, being written, leftover, or unreadable.
        bytes: Size of its files.
        created_at: ISO 8601, UTC; None without a manifest, as what follows.
        snapshot: What it is made of; a builder names it too.
        vectors: How many.
        recall: Measured.
        target_recall: SearchQuery for.
    """

    version: str
    state: str
    bytes: int
    created_at: str | None = None
    snapshot: str | None = None
    vectors: int | None = None
    recall: float | None = None
    target_recall: float | None = None


@dataclasses.dataclass(frozen=True)
class Versions(Result):
    """The versions of a store.

    Attributes:
        current: The one that CURRENT names; None where nothing is published.
        states: Every version, and every folder that is none yet or none any more, oldest first.
    """

    current: str | None
    states: list[VersionState]

    def to_dict(self) -> dict[str, Any]:
        """The published version and the state of each."""
        return {"current": self.current, "versions": [dataclasses.asdict(state) for state in self.states]}

    def summary(self) -> Lines:
        """A line to each version."""
        return [(state.version, state.state) for state in self.states]


def list_versions(store: Uri) -> Versions:
    """What lies in a store.

    Raises:
        UserError: There is no such store.
        StoreError: It cannot be read, or CURRENT is not a version's name.
    """
    place = open_existing(store)
    return Versions(read_current(place), list_states(place, utc_now()))


def open_existing(uri: Uri) -> Store:
    """A store that is there: to list or tend one that is not would hide a wrong path.

    Raises:
        UserError: Nothing lies there.
    """
    store = Store(os.fspath(uri))
    if not any(store.list(folder) for folder in ("indexes", "embeddings", "runs")):
        raise UserError(f"{store.uri}: expected a store, found nothing there; shelfmark embed --store makes one")
    return store


def list_states(store: Store, now: datetime.datetime) -> list[VersionState]:
    """Every version and every folder that is none yet or none any more, oldest first."""
    current = read_current(store)
    names = [name for name in store.list("indexes") if SNAPSHOT_NAME.fullmatch(name)]
    return [_state(store, name, name == current, now) for name in names]


def _state(store: Store, version: str, is_current: bool, now: datetime.datetime) -> VersionState:
    size = store.total_bytes(version_folder(version))
    try:
        manifest = read_index_manifest(store, version)
    except UserError:
        sign = read_sign(store, version)
        if sign is None or not sign.is_alive(now):
            return VersionState(version, "leftover", size)
        return VersionState(version, "being written", size, snapshot=sign.snapshot)
    except StoreError:
        return VersionState(version, "unreadable", size)
    return VersionState(
        version,
        "published" if is_current else "kept" if manifest.meets_target else "under target",
        size,
        manifest.created_at,
        manifest.snapshot,
        manifest.vectors,
        manifest.recall.measured,
        manifest.recall.target,
    )


@dataclasses.dataclass(frozen=True)
class RolledBack(Result):
    """What a rollback has changed.

    Attributes:
        before: The version that was published; None where none was.
        version: The one that is published now.
    """

    before: str | None
    version: str

    def to_dict(self) -> dict[str, Any]:
        """The version before and the version now."""
        return {"from": self.before, "to": self.version}

    def summary(self) -> Lines:
        """One line."""
        return [("published", str(self))]

    def __str__(self) -> str:
        return f"{self.before or 'nothing'} -> {self.version}"


def rollback(store: Uri, to: str | None = None) -> RolledBack:
    """Publishes an earlier version; `index` and `reindex` then publish nothing over it until they are told to.

    Args:
        store: Where the versions lie.
        to: The version; None for the newest at its target that is older than the published one.

    Raises:
        UserError: There is no such version, or its recall is under its target.
        StoreError: A file of the version is missing, or somebody else published at the same time.
    """
    place = Store(os.fspath(store))
    over = read_published(place)
    target = _named_target(place, to) if to else _default_target(place, over)
    before = over.version or None if over else None
    published = publish(place, target.version, over=over, by="rollback")
    if published.rolled_back_from is not None:
        LOG.info("This stands: index and reindex publish nothing over it until they are told to by --publish.")
    return RolledBack(before, target.version)


def _named_target(store: Store, version: str) -> IndexManifest:
    manifest = read_index_manifest(store, version)
    if not manifest.meets_target:
        raise UserError(
            f"--to {version}: expected recall of at least {manifest.recall.target}, found "
            f"{manifest.recall.measured}; choose one that shelfmark versions calls kept"
        )
    return manifest


def _default_target(store: Store, over: Published | None) -> IndexManifest:
    """The newest whole version that is older than the published one; where CURRENT is lost, what it named last."""
    if over is None or not over.version:
        last = last_published(store)
        if last is None:
            raise UserError(
                f"no version of {store.uri} is at its target; build one with shelfmark index, or name one with --to"
            )
        return read_index_manifest(store, last)
    for manifest in whole_versions(store, ignore):
        if manifest.version < over.version and manifest.meets_target:
            return manifest
    raise UserError(
        f"no version older than {over.version} is at its target; see shelfmark versions --store {store.uri}"
    )


@dataclasses.dataclass(frozen=True)
class PruneResult(Result):
    """What was deleted, or would be.

    Attributes:
        dry_run: Whether nothing was deleted.
        pruned: The folders, by kind.
    """

    dry_run: bool
    pruned: Pruned

    def to_dict(self) -> dict[str, Any]:
        """All of it."""
        return {"dry_run": self.dry_run, **dataclasses.asdict(self.pruned)}

    def summary(self) -> Lines:
        """A line to each folder."""
        return [("", line) for line in str(self).splitlines()]

    def __str__(self) -> str:
        return _describe(self.pruned, self.dry_run)


def prune(request: PruneRequest) -> PruneResult:
    """Deletes what nobody needs, or says what it would delete.

    Raises:
        UserError: There is no such store.
        StoreError: See `store.prune.prune`.
    """
    act = plan_prune if request.dry_run else prune_store
    after = datetime.timedelta(hours=request.leftovers_after_hours)
    return PruneResult(request.dry_run, act(open_existing(request.store), request.keep, utc_now(), after))


def _describe(pruned: Pruned, dry_run: bool) -> str:
    damaged = [f"{version_folder(name)}: its manifest is cut; left alone" for name in pruned.damaged]
    counts = [
        (len(pruned.versions), "version"),
        (len(pruned.snapshots), "snapshot"),
        (len(pruned.leftovers), "leftover"),
    ]
    parts = ", ".join(f"{count} {noun}{'' if count == 1 else 's'}" for count, noun in counts)
    return "\n".join(
        [*damaged, *pruned.paths, f"{'would delete' if dry_run else 'deleted'} {parts}: {pruned.bytes:,} bytes"]
    )
