"""CURRENT, which names the published version: changed by compare-and-swap, and never deleted."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import uuid

from store.conditional import read_versioned, write_if
from store.damage import ignore, whole_versions
from store.errors import GateRefused, StoreError
from store.index import check_files, read_index_manifest, version_exists, version_folder
from store.location import Store
from store.process import utc_now
from store.runs import read_runs
from store.snapshot import SNAPSHOT_NAME

CURRENT = "indexes/CURRENT"

_PUBLISHED_FILE = "published.json"


@dataclasses.dataclass(frozen=True, slots=True)
class Published:
    """What CURRENT says: its first line is the version's name, its second a JSON object with the rest.

    Attributes:
        version: Name of the published version; "" where the file holds no version's name.
        fence: Number of the lease under which it was published. It never falls.
        by: index, reindex or rollback; "" where an older release wrote it.
        at: ISO 8601, UTC; "" where an older release wrote it.
        rolled_back_from: The newest version that a person rolled back from, for as long as that stands.
        write: Tells this publication from any other, of the same version too.
        token: Stands for exactly this content of the file.
    """

    version: str
    fence: int = 0
    by: str = ""
    at: str = ""
    rolled_back_from: str | None = None
    write: str = ""
    token: str = ""

    def to_bytes(self) -> bytes:
        """The file."""
        rest = dataclasses.asdict(self)
        del rest["version"], rest["token"]
        return f"{self.version}\n{json.dumps(rest)}\n".encode()

    @classmethod
    def from_bytes(cls, data: bytes, token: str = "") -> Published:
        """Reads the file; a second line that is missing, as older releases leave it, or is no JSON, says nothing."""
        first, _, second = data.decode("utf-8", "replace").partition("\n")
        version = first.strip() if SNAPSHOT_NAME.fullmatch(first.strip()) else ""
        try:
            rest = json.loads(second)
            fence, rolled_back_from = int(rest["fence"]), rest["rolled_back_from"]
            texts = {name: str(rest[name]) for name in ("by", "at", "write")}
        except (ValueError, KeyError, TypeError):
            return cls(version, token=token)
        known = isinstance(rolled_back_from, str) and SNAPSHOT_NAME.fullmatch(rolled_back_from)
        return cls(version, fence, rolled_back_from=rolled_back_from if known else None, token=token, **texts)


def read_published(store: Store) -> Published | None:
    """CURRENT with the token that `publish` wants; None where there is no such file.

    Raises:
        StoreError: It cannot be read.
        UserError: The store is of a kind without conditional writes, or its client library is missing.
    """
    found = read_versioned(store, CURRENT)
    return None if found is None else Published.from_bytes(found.data, found.token)


def read_current(store: Store) -> str | None:
    """What CURRENT names, whether or not there is such a version; None where there is no CURRENT.

    Raises:
        StoreError: CURRENT holds something that is no version's name.
    """
    try:
        data = store.read(CURRENT)
    except FileNotFoundError:
        return None
    name = Published.from_bytes(data).version
    if not name:
        raise StoreError(
            f"{store.full_path(CURRENT)}: expected the name of a version, found {_shown(data)}; "
            f"publish one with shelfmark rollback --to VERSION --store {store.uri}"
        )
    return name


def _shown(data: bytes) -> str:
    return repr(data[:40].decode("ascii", "replace").strip())


def current_version(store: Store) -> str | None:
    """Name of the published version, or None before the first.

    Raises:
        StoreError: CURRENT names no version, or one that does not exist; or it is missing, though there are versions
            that could have been published.
    """
    name = read_current(store)
    if name is not None and not version_exists(store, name):
        raise StoreError(
            f"{store.full_path(CURRENT)}: expected a version that exists, found {name}, which has no manifest; "
            f"publish another with shelfmark rollback --to VERSION --store {store.uri}"
        )
    if name is None:
        last = last_published(store)
        if last is not None:
            raise StoreError(missing_current(store, last))
    return name


def missing_current(store: Store, last: str) -> str:
    """What to say where CURRENT is not there, though it should name version `last`."""
    return (
        f"{store.full_path(CURRENT)} is missing, though there are versions; "
        f"shelfmark rollback --store {store.uri} publishes {last}"
    )


def refuse_after_rollback(published: Published | None, store: Store) -> None:
    """A rollback by a person stands until a person says otherwise.

    Raises:
        GateRefused: CURRENT was set by one; the message says how to go on.
    """
    if published is not None and published.rolled_back_from is not None:
        raise GateRefused(
            f"a person rolled back from {published.rolled_back_from} to {published.version} at {published.at[:19]}; "
            "that stands: pass --publish once what was wrong is mended, or publish a newer version with "
            f"shelfmark rollback --store {store.uri} --to VERSION"
        )


def last_published(store: Store) -> str | None:
    """The whole version that was published last, told without CURRENT: by the runs' records and by the versions.

    Returns:
        Where nothing tells that one was ever published, the newest that reached its target; None where there is none.
    """
    whole = {manifest.version for manifest in whole_versions(store, ignore) if manifest.meets_target}
    events = [
        *((record.ended_at or record.started_at, str(record.version)) for record in read_runs(store)
          if record.outcome == "published"),
        *((_read_mark(store, version).at, version) for version in whole),
    ]  # fmt: skip
    known = [(at, version) for at, version in events if at and version in whole]
    if known:
        return max(known)[1]
    return max(whole, default=None)


def standing(store: Store, over: Published | None) -> Published | None:
    """What CURRENT says, or, where it is lost, what it said of the version that was published last.

    Args:
        store: Where.
        over: What `read_published` said.
    """
    last = last_published(store) if over is None else None
    return over if last is None else _read_mark(store, last)


def _read_mark(store: Store, version: str) -> Published:
    """What was left in a version's folder when it was published last; no time where nothing was."""
    try:
        rest = store.read(_mark(version))
    except FileNotFoundError:
        rest = b""
    return Published.from_bytes(f"{version}\n".encode() + rest)


def _mark(version: str) -> str:
    return f"{version_folder(version)}/{_PUBLISHED_FILE}"


def publish(store: Store, version: str, *, over: Published | None, by: str, fence: int = 0) -> Published:
    """Makes a version the one that readers open, if CURRENT still says what the caller started from.

    Readers see the one before or this one, never neither. Of two that publish at once one wins, and the other is told.

    Args:
        store: Where.
        version: Its name.
        over: What `read_published` said when the caller began.
        by: index, reindex or rollback.
        fence: Of the caller's lease; 0 for one without.

    Returns:
        What CURRENT says now.

    Raises:
        GateRefused: Its recall is under its target.
        UserError: There is no such version.
        StoreError: Somebody else has published since; one of its files is missing or of another size; it was pruned at
            this very moment; or CURRENT could not be written.
    """
    manifest = read_index_manifest(store, version)
    if not manifest.meets_target:
        raise GateRefused(
            f"version {version}: expected recall of at least {manifest.recall.target}, found "
            f"{manifest.recall.measured}; it is not published"
        )
    check_files(store, manifest)
    published = _swap(store, _successor(store, version, over, by, fence), over)
    # `prune` deletes a manifest, then reads CURRENT; here it is the other way round: one of the two sees the other.
    if not version_exists(store, version):
        _give_back(store, published, over)
    with contextlib.suppress(StoreError):  # it is published; the mark only helps where CURRENT gets lost
        store.replace(_mark(version), published.to_bytes().partition(b"\n")[2])
    return published


def _successor(store: Store, version: str, over: Published | None, by: str, fence: int) -> Published:
    before = over.fence if over else 0
    if fence and fence < before:
        raise StoreError(
            f"version {version} is not published: this run's lease has number {fence}, and one with number {before} "
            "has published since; run again"
        )
    left = [over.version, over.rolled_back_from] if over and by == "rollback" else []
    newest = max((name for name in left if name and version_exists(store, name)), default="")  # damage is no judgement
    back_from = newest if version < newest else None
    return Published(version, max(fence, before), by, utc_now().isoformat(), back_from, uuid.uuid4().hex)


def _swap(store: Store, new: Published, over: Published | None) -> Published:
    token = write_if(store, CURRENT, new.to_bytes(), over.token if over else None)
    if token is None:
        found = read_published(store)
        now = f"{found.version or 'nothing'}, by {found.by or 'an older release'}" if found else "missing"
        raise StoreError(
            f"version {new.version} is not published: CURRENT was {over.version if over else 'missing'} when this "
            f"began, and is {now} now; look at shelfmark versions --store {store.uri} and run again"
        )
    return dataclasses.replace(new, token=token)


def _give_back(store: Store, published: Published, over: Published | None) -> None:
    """Undoes a publication whose version is gone.

    Raises:
        StoreError: Always.
    """
    gone = f"version {published.version} was pruned while it was being published"
    if over is None or not over.version:
        raise StoreError(f"{gone}, and nothing was before; publish one with shelfmark rollback --store {store.uri}")
    again = dataclasses.replace(over, fence=published.fence, write=uuid.uuid4().hex)
    _swap(store, again, published)
    raise StoreError(f"{gone}; CURRENT names {over.version}, as before")
