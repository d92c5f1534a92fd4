"""One at a time: a lease that a run holds on the whole store, on any kind of store, and that outlives no dead owner."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import threading
import time
import types
import uuid
from collections.abc import Callable

from store.conditional import read_versioned, write_if
from store.errors import StoreError
from store.location import Store
from store.objects import Versioned
from store.process import is_gone, this_host, utc_now
from store.snapshot import known_fields

LIFE_S = 120.0
"""How long an owner may be silent before others take over; clocks may differ by less than this minus `_EVERY_S`."""

_EVERY_S = 20.0
CLOCKS_DIFFER_S = LIFE_S - _EVERY_S
"""An owner whose word is this much younger than the present has a clock that is ahead, and would be waited for long."""

_POLL_S = 5.0

Clock = Callable[[], datetime.datetime]


class LeaseHeld(StoreError):
    """Another run holds the lease; the message says who, since when and until when at the latest."""


@dataclasses.dataclass(frozen=True, slots=True)
class Holder:
    """What locks/<name>.json says; times are ISO 8601, UTC.

    Attributes:
        owner: Names one acquisition and no other.
        host: Its machine, as `store.process` names it.
        pid: Its process.
        acquired_at: When it came.
        heartbeat_at: When it last spoke.
        life_s: How long it may be silent.
        released: It has left.
        fence: Number of this acquisition, higher than that of any before; what is published carries it.
    """

    owner: str
    host: str
    pid: int
    acquired_at: str
    heartbeat_at: str
    life_s: float
    released: bool
    fence: int = 0

    @property
    def expires_at(self) -> datetime.datetime:
        """When others may take over, unless it speaks again."""
        return datetime.datetime.fromisoformat(self.heartbeat_at) + datetime.timedelta(seconds=self.life_s)

    def ahead_s(self, now: datetime.datetime) -> float:
        """How far its clock is ahead of this one, in seconds, as far as its last word tells; 0 where it is not."""
        return max(0.0, (datetime.datetime.fromisoformat(self.heartbeat_at) - now).total_seconds())

    def is_alive(self, now: datetime.datetime) -> bool:
        """Whether it has not left, not been silent for its life and, if it ran here, still runs."""
        return not self.released and now <= self.expires_at and not is_gone(self.host, self.pid)

    def to_json(self) -> bytes:
        """One line of JSON, UTF-8."""
        return json.dumps(dataclasses.asdict(self)).encode() + b"\n"


@dataclasses.dataclass(frozen=True, slots=True)
class _Reading:
    """What a lease's file says at a time.

    Attributes:
        at: When it was read, UTC.
        token: Of the file, None where there is none.
        held_by: Whoever is alive and holds the lease; None where it can be taken.
        last_fence: Number of the last acquisition, 0 where there was none.
    """

    at: datetime.datetime
    token: str | None
    held_by: Holder | None
    last_fence: int


class Lease:
    """The right to be the only one, from `acquire` to the end of the `with` block.

    A thread renews it every 20 s. A run asks `check` before each step that others would see.
    """

    def __init__(self, store: Store, path: str, holder: Holder, token: str, clock: Clock) -> None:
        self._store = store
        self._path = path
        self._holder = holder
        self._token = token
        self._clock = clock
        self._lost = ""
        self._one_writer = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)

    @classmethod
    def acquire(
        cls,
        store: Store,
        name: str = "reindex",
        *,
        wait_s: float = 0.0,
        fence_above: int = 0,
        say: Callable[[str], object] = lambda line: None,
        clock: Clock = utc_now,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Lease:
        """Takes the lease where nobody alive holds it; of several that try at once, one gets it.

        Args:
            store: Where.
            name: Of the lease.
            wait_s: How long to wait for another's lease; math.inf for ever.
            fence_above: A number that the lease's is to be above, should its file have been deleted.
            say: Told once who is waited for.
            clock: The present, UTC.
            sleep: Waits that many seconds.

        Raises:
            LeaseHeld: Another holds it still after `wait_s`.
            StoreError: The store cannot be read or written, or the file is not a lease.
            UserError: The store knows no conditional writes, or the client library for it is missing.
        """
        path, owner, waited_s = lease_path(name), uuid.uuid4().hex, 0.0
        while True:
            reading = _read_lease(store, path, clock)
            if reading.held_by is not None:
                if waited_s >= wait_s:
                    raise LeaseHeld(f"{store.full_path(path)}: {_explain_refusal(store, reading.held_by, reading.at)}")
                if not waited_s:
                    say(_explain_wait(store, reading.held_by, reading.at))
                pause_s = min(_POLL_S, wait_s - waited_s)
                sleep(pause_s)
                waited_s += pause_s
            elif lease := cls._take(store, path, owner, fence_above, reading, clock):
                return lease  # otherwise somebody else got it: the next reading says who

    @classmethod
    def _take(
        cls, store: Store, path: str, owner: str, fence_above: int, reading: _Reading, clock: Clock
    ) -> Lease | None:
        """Writes a free lease's file; None where somebody else wrote it since `reading`."""
        spoken = reading.at.isoformat()
        fence = max(fence_above, reading.last_fence) + 1
        holder = Holder(owner, this_host(), os.getpid(), spoken, spoken, LIFE_S, released=False, fence=fence)
        token = write_if(store, path, holder.to_json(), reading.token)
        return None if token is None else cls(store, path, holder, token, clock)

    def __enter__(self) -> Lease:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(StoreError), self._one_writer:  # silence will tell; the block's end matters more
            self._write(released=True)

    @property
    def fence(self) -> int:
        """Number of this acquisition: whoever takes the lease later has a higher one."""
        return self._holder.fence

    def check(self) -> None:
        """Renews the lease, so that what follows has its whole life to end.

        Raises:
            StoreError: Somebody else holds it now, or may: it could not be renewed for nearly its life.
        """
        with self._one_writer:
            try:
                self._write(released=False)
            except StoreError as error:
                self._expire(f": {error}")
            if self._lost:
                raise StoreError(f"{self._store.full_path(self._path)}: {self._lost}; nothing more is done")

    def _keep(self) -> None:
        while not self._stop.wait(_EVERY_S):
            with contextlib.suppress(StoreError), self._one_writer:  # `check` says what is wrong, if it stays so
                self._write(released=False)
            if self._lost:
                return

    def _expire(self, why: str) -> None:
        silent_s = (self._clock() - datetime.datetime.fromisoformat(self._holder.heartbeat_at)).total_seconds()
        if not self._lost and silent_s > LIFE_S - _EVERY_S:  # a margin for others' clocks
            self._lost = f"this run's lease could not be renewed for {silent_s:.0f} s{why}"

    def _write(self, *, released: bool) -> None:
        """Speaks, and once it has lost the lease never again.

        Raises:
            StoreError: The store is away; whether the word arrived is found out the next time.
        """
        if self._lost:
            return
        spoken = dataclasses.replace(self._holder, heartbeat_at=self._clock().isoformat(), released=released)
        token = write_if(self._store, self._path, spoken.to_json(), self._token)
        if token is None:
            token = self._write_after_own(spoken)
        if token is not None:
            self._holder, self._token = spoken, token

    def _write_after_own(self, spoken: Holder) -> str | None:
        """Writes over this owner's own word, of which it never heard that it arrived; anything else is the end."""
        found = read_versioned(self._store, self._path)
        current = None if found is None else parse_holder(self._store, self._path, found)
        if found is not None and current is not None and current.owner == spoken.owner:
            token = write_if(self._store, self._path, spoken.to_json(), found.token)
            if token is not None:
                return token
        self._lost = "the file was deleted" if current is None else f"this run has lost its lease, {described(current)}"
        return None


def lease_path(name: str) -> str:
    """Where a lease lies, relative to its store."""
    return f"locks/{name}.json"


def _read_lease(store: Store, path: str, clock: Clock) -> _Reading:
    found = read_versioned(store, path)
    if found is None:
        return _Reading(clock(), None, None, 0)
    last = parse_holder(store, path, found)
    now = clock()
    return _Reading(now, found.token, last if last.is_alive(now) else None, last.fence)


def parse_holder(store: Store, path: str, found: Versioned) -> Holder:
    """What a lease's file says.

    Raises:
        StoreError: It is no lease.
    """
    try:
        holder = Holder(**known_fields(Holder, json.loads(found.data)))
        if holder.expires_at.tzinfo is None or not isinstance(holder.pid, int) or not isinstance(holder.host, str):
            raise ValueError("a time without a zone, or no process")
        if not isinstance(holder.fence, int):
            raise TypeError("no number")
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise StoreError(
            f"{store.full_path(path)}: expected a lease, found {found.data[:60]!r}; when nothing runs, "
            f"shelfmark unlock --store {store.uri} --force"
        ) from error
    return holder


def _explain_refusal(store: Store, holder: Holder, now: datetime.datetime) -> str:
    advice = _advise_on_clocks(holder, now, store) or "try again later, or pass --wait"
    return f"the lease is {described(holder)}; {advice}"


def _explain_wait(store: Store, holder: Holder, now: datetime.datetime) -> str:
    advice = _advise_on_clocks(holder, now, store)
    return f"waiting: the lease is {described(holder)}{'; ' * bool(advice)}{advice}"


def _advise_on_clocks(holder: Holder, now: datetime.datetime, store: Store) -> str:
    """What helps against a clock that is ahead, without which the lease would be held for as long; "" elsewhere."""
    ahead_s = holder.ahead_s(now)
    if ahead_s <= CLOCKS_DIFFER_S:
        return ""
    return (
        f"its machine's clock is {ahead_s:,.0f} s ahead of this one's: set the clocks right, and when that run has "
        f"ended, shelfmark unlock --store {store.uri}"
    )


def described(holder: Holder) -> str:
    """Who holds a lease, since when and until when."""
    expires = holder.expires_at.isoformat(timespec="seconds")
    return (
        f"held by process {holder.pid} on {holder.host.split(' ')[0]} since {holder.acquired_at[:19]}, "
        f"expires {expires[:19]} UTC unless renewed"
    )
