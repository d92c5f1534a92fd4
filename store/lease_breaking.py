"""Taking a lease away from whoever holds it, for a person who knows better than the clocks."""

from __future__ import annotations

import dataclasses
import datetime
import os
import uuid

from store.conditional import read_versioned, write_if
from store.errors import StoreError, UserError
from store.lease import CLOCKS_DIFFER_S, LIFE_S, Holder, described, lease_path, parse_holder
from store.location import Store
from store.objects import Versioned
from store.process import is_running, this_host


@dataclasses.dataclass(frozen=True, slots=True)
class Unlocked:
    """What was found, and what was done.

    Attributes:
        holder: Who held the lease; None where nobody did, or nobody could read who.
        broken: Whether it was taken away.
        found: One line.
    """

    holder: Holder | None
    broken: bool
    found: str


def break_lease(store: Store, now: datetime.datetime, *, force: bool, name: str = "reindex") -> Unlocked:
    """Marks a lease as released, in a name of its own, so that its holder, should it wake, finds that it has lost it.

    By compare-and-swap: a lease that was renewed or taken meanwhile stays. The file is never deleted.

    Args:
        store: Where.
        now: The present, UTC.
        force: Also take it from a holder that is alive, and from a file that nobody can read.
        name: Of the lease.

    Raises:
        UserError: Its holder is alive, or the file is no lease; and not `force`.
        StoreError: The store cannot be read or written, or somebody else wrote the lease at the same time.
    """
    path = lease_path(name)
    found = read_versioned(store, path)
    if found is None:
        return Unlocked(None, False, f"{store.full_path(path)}: there is no lease: nothing to unlock")
    try:
        holder: Holder | None = parse_holder(store, path, found)
    except StoreError as error:
        if not force:
            raise UserError(str(error)) from error
        holder = None
    if holder is not None and holder.released:
        return Unlocked(holder, False, f"{store.full_path(path)}: nobody holds the lease: nothing to unlock")
    if holder is not None and not force:
        _refuse_alive(store, path, holder, now)
    _write_released(store, path, found, holder, now)
    who = "held by nobody that can be read" if holder is None else described(holder)
    return Unlocked(holder, True, f"{store.full_path(path)}: taken away; the lease was {who}{_clock(holder, now)}")


def _refuse_alive(store: Store, path: str, holder: Holder, now: datetime.datetime) -> None:
    """A word from the future says nothing of its speaker's life, unless that is a process of this very machine."""
    is_here = holder.host == this_host() and is_running(holder.pid)
    is_ahead = holder.ahead_s(now) > CLOCKS_DIFFER_S
    if holder.is_alive(now) and (is_here or not is_ahead):
        raise UserError(
            f"{store.full_path(path)}: the lease is {described(holder)}, and it is alive; wait for it, end it, or take "
            "the lease away with --force"
        )


def _clock(holder: Holder | None, now: datetime.datetime) -> str:
    ahead_s = 0.0 if holder is None else holder.ahead_s(now)
    return f"; its clock is {ahead_s:,.0f} s ahead of this one's" if ahead_s > CLOCKS_DIFFER_S else ""


def _write_released(store: Store, path: str, found: Versioned, holder: Holder | None, now: datetime.datetime) -> None:
    spoken, owner = now.isoformat(), uuid.uuid4().hex
    if holder is None:
        nobody = Holder(owner, this_host(), os.getpid(), spoken, spoken, LIFE_S, released=True)
    else:  # whatever else a lease says stays as it was
        nobody = dataclasses.replace(
            holder, owner=owner, host=this_host(), pid=os.getpid(), acquired_at=spoken, heartbeat_at=spoken
        )
        nobody = dataclasses.replace(nobody, life_s=LIFE_S, released=True)
    if write_if(store, path, nobody.to_json(), found.token) is None:
        raise StoreError(f"{store.full_path(path)}: somebody else wrote the lease at the same time; look again")
