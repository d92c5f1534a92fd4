"""Deleting what nobody needs: old versions, snapshots no version is made of, what dead runs left behind."""

from __future__ import annotations

import dataclasses
import datetime

from store.building import read_sign
from store.errors import DamagedError, UserError
from store.index import IndexManifest, list_versions, read_index_manifest, version_folder
from store.location import Store
from store.publication import current_version, read_current
from store.snapshot import MANIFEST, SNAPSHOT_NAME, list_snapshots, snapshot_folder

_DOOMED = "pruned"
"""Marks a folder that is being deleted, so that the next prune finishes it however young its files are."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pruned:
    """What was deleted, or would be.

    Attributes:
        versions: Names of versions.
        snapshots: Names of snapshots.
        leftovers: What dead runs left: paths relative to the store.
        bytes: Size of all of it.
        damaged: Versions whose manifest is cut: left alone, for a re-indexing run to set aside.
    """

    versions: tuple[str, ...]
    snapshots: tuple[str, ...]
    leftovers: tuple[str, ...]
    bytes: int = 0
    damaged: tuple[str, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """All of it, relative to the store."""
        return (*map(version_folder, self.versions), *map(snapshot_folder, self.snapshots), *self.leftovers)


def plan_prune(store: Store, keep: int, now: datetime.datetime, leftovers_after: datetime.timedelta) -> Pruned:
    """What `prune` would delete now.

    Args:
        store: Where.
        keep: How many of the newest versions stay of those at their target, and as many of those under it.
        now: The present, UTC.
        leftovers_after: How long a folder without manifest and without a builder's sign must have been quiet.

    Raises:
        StoreError: CURRENT is missing or names a version that does not exist, or a manifest cannot be read or is of
            another format. Nothing is a guess here.
    """
    current = current_version(store)
    manifests, damaged = _read_manifests(store)
    building = _snapshots_by_builder(store, now)
    kept = _kept(manifests, keep) | building.keys() | {current}
    versions = tuple(name for name in manifests if name not in kept)
    remaining = {name: manifest for name, manifest in manifests.items() if name in kept}
    needed = {manifest.snapshot for manifest in remaining.values()} | set(building.values())
    snapshots: tuple[str, ...] = ()
    if current in remaining:
        oldest_fresh = remaining[current].snapshot
        snapshots = tuple(name for name in list_snapshots(store)[:-1] if name not in needed and name < oldest_fresh)
    plan = Pruned(versions, snapshots, _leftovers(store, now, leftovers_after), damaged=damaged)
    return dataclasses.replace(plan, bytes=sum(store.total_bytes(path) for path in plan.paths))


def _read_manifests(store: Store) -> tuple[dict[str, IndexManifest], tuple[str, ...]]:
    """The manifests, oldest first, and the versions whose manifest is cut: nobody opens those, or their snapshots."""
    manifests, damaged = {}, []
    for name in list_versions(store):
        try:
            manifests[name] = read_index_manifest(store, name)
        except UserError:
            continue  # another prune was faster
        except DamagedError:
            damaged.append(name)
    return manifests, tuple(damaged)


def _kept(manifests: dict[str, IndexManifest], keep: int) -> set[str]:
    at_target = [name for name, manifest in manifests.items() if manifest.meets_target]
    under_target = [name for name, manifest in manifests.items() if not manifest.meets_target]
    return {*at_target[-keep:], *under_target[-keep:]}


def _snapshots_by_builder(store: Store, now: datetime.datetime) -> dict[str, str]:
    """The snapshot that each version with a living builder is made from."""
    signs = {name: read_sign(store, name) for name in _named(store, "indexes")}
    return {name: sign.snapshot for name, sign in signs.items() if sign is not None and sign.is_alive(now)}


def _named(store: Store, folder: str) -> list[str]:
    return [name for name in store.list(folder) if SNAPSHOT_NAME.fullmatch(name)]


def _leftovers(store: Store, now: datetime.datetime, after: datetime.timedelta) -> tuple[str, ...]:
    folders = [f"{parent}/{name}" for parent in ("indexes", "embeddings") for name in _named(store, parent)]
    dead = [folder for folder in folders if _is_dead(store, folder, now, after)]
    unfinished = [f"indexes/{name}" for name in store.list("indexes") if name.endswith(".tmp")]
    return (*dead, *(path for path in unfinished if _is_quiet(store, path, now, after)))


def _is_dead(store: Store, folder: str, now: datetime.datetime, after: datetime.timedelta) -> bool:
    if store.size_bytes(f"{folder}/{MANIFEST}") is not None:
        return False
    if store.size_bytes(f"{folder}/{_DOOMED}") is not None:
        return True
    parent, name = folder.split("/")
    sign = read_sign(store, name) if parent == "indexes" else None
    return _is_quiet(store, folder, now, after) if sign is None else not sign.is_alive(now)


def _is_quiet(store: Store, path: str, now: datetime.datetime, after: datetime.timedelta) -> bool:
    changed = store.newest_change(path)
    return changed is None or now - changed > after


def prune(store: Store, keep: int, now: datetime.datetime, leftovers_after: datetime.timedelta) -> Pruned:
    """Deletes old versions, snapshots that no version needs and leftovers of dead runs.

    Never: the published version, one that is being written, a snapshot that is newer than the published version's.
    Manifests go first, so that nobody opens what is half gone; a prune that was killed is finished by the next one.
    A reader that has a local version open keeps its files.

    Args:
        store: Where.
        keep: How many of the newest versions stay of those at their target, and as many of those under it.
        now: The present, UTC.
        leftovers_after: How long a folder without manifest and without a builder's sign must have been quiet.

    Returns:
        What was deleted; less than planned where a version was published or a build began meanwhile.

    Raises:
        StoreError: CURRENT is missing or names a version that does not exist, a manifest cannot be read, a file cannot
            be deleted.
    """
    plan = plan_prune(store, keep, now, leftovers_after)
    sizes = {path: store.total_bytes(path) for path in plan.paths}
    gone = Pruned(
        versions=tuple(name for name in plan.versions if _remove_version(store, name)),
        snapshots=tuple(name for name in plan.snapshots if _remove_snapshot(store, name, now)),
        leftovers=tuple(path for path in plan.leftovers if _remove_leftover(store, path, now, leftovers_after)),
    )
    return dataclasses.replace(gone, bytes=sum(sizes[path] for path in gone.paths), damaged=plan.damaged)


def _remove_version(store: Store, version: str) -> bool:
    folder = version_folder(version)
    if read_current(store) == version:
        return False
    try:
        manifest = store.read(f"{folder}/{MANIFEST}")
    except FileNotFoundError:
        return False
    store.touch(f"{folder}/{_DOOMED}")
    store.remove(f"{folder}/{MANIFEST}")
    if read_current(store) == version:  # published since; see `publish` for the other half
        store.replace(f"{folder}/{MANIFEST}", manifest)
        store.remove(f"{folder}/{_DOOMED}")
        return False
    _remove_rest(store, folder)
    return True


def _remove_snapshot(store: Store, snapshot: str, now: datetime.datetime) -> bool:
    needed = {manifest.snapshot for manifest in _read_manifests(store)[0].values()}
    if snapshot in needed | set(_snapshots_by_builder(store, now).values()):
        return False
    folder = snapshot_folder(snapshot)
    store.touch(f"{folder}/{_DOOMED}")
    store.remove(f"{folder}/{MANIFEST}")
    _remove_rest(store, folder)
    return True


def _remove_leftover(store: Store, path: str, now: datetime.datetime, after: datetime.timedelta) -> bool:
    if path.endswith(".tmp"):
        store.remove(path)
        return True
    if not _is_dead(store, path, now, after):
        return False
    store.touch(f"{path}/{_DOOMED}")
    _remove_rest(store, path)
    return True


def _remove_rest(store: Store, folder: str) -> None:
    """The mark goes last: without it a half-deleted folder would look like one that is being written."""
    for name in store.list(folder):
        if name == _DOOMED:
            continue
        if store.size_bytes(f"{folder}/{name}") is None:
            store.remove_folder(f"{folder}/{name}")
        else:
            store.remove(f"{folder}/{name}", lasting=False)
    store.remove_folder(folder)
