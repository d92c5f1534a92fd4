"""The sign that a version is being written, and by whom: what `prune` leaves alone."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import threading
import types

from store.errors import StoreError
from store.index import version_folder
from store.location import Store
from store.process import is_gone, now_text, this_host
from store.snapshot import check_name

BUILDING_FILE = "building.json"

_EVERY_S = 60.0
_DEAD_AFTER = datetime.timedelta(minutes=15)


@dataclasses.dataclass(frozen=True, slots=True)
class Sign:
    """What the builder of a version says of itself.

    Attributes:
        version: The version it writes.
        snapshot: The snapshot it reads.
        host: The machine it runs on, as `store.process` names it.
        pid: Its process.
        heartbeat_at: ISO 8601, UTC: when it last spoke.
    """

    version: str
    snapshot: str
    host: str
    pid: int
    heartbeat_at: str

    def is_alive(self, now: datetime.datetime) -> bool:
        """Whether it spoke within 15 minutes and, if it ran here, still runs."""
        if now - datetime.datetime.fromisoformat(self.heartbeat_at) > _DEAD_AFTER:
            return False
        return not is_gone(self.host, self.pid)


class Building:
    """Keeps a sign in a version's folder for as long as the `with` block runs.

    A thread renews it every minute, so that a builder that died without a word is known by its silence.
    """

    def __init__(self, store: Store, version: str, snapshot: str) -> None:
        self._store = store
        self._sign = Sign(version, snapshot, this_host(), os.getpid(), now_text())
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> Building:
        self._write()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(StoreError):  # silence will tell; what ended the block matters more
            self._store.remove(_path(self._sign.version))

    def _write(self) -> None:
        sign = dataclasses.replace(self._sign, heartbeat_at=now_text())
        self._store.replace(_path(sign.version), json.dumps(dataclasses.asdict(sign)).encode() + b"\n")

    def _renew(self) -> None:
        while not self._stop.wait(_EVERY_S):
            try:
                self._write()
            except StoreError:
                continue  # the build itself will meet a store that stays away


def read_sign(store: Store, version: str) -> Sign | None:
    """The sign in a version's folder, or None where there is none that can be read."""
    try:
        sign = Sign(**json.loads(store.read(_path(version))))
        _check(sign)
    except (FileNotFoundError, ValueError, TypeError, RecursionError):
        return None
    return sign


def _check(sign: Sign) -> None:
    """Refuses what a reader would stumble over, or build a path from.

    Raises:
        TypeError: The process or the host is of another type.
        ValueError: A name is none, or the time has no zone.
    """
    for name in (sign.version, sign.snapshot):
        check_name(name, ValueError)
    if not isinstance(sign.pid, int) or not isinstance(sign.host, str):
        raise TypeError("expected a process and a host")
    if datetime.datetime.fromisoformat(sign.heartbeat_at).tzinfo is None:
        raise ValueError("expected a time with a zone")


def _path(version: str) -> str:
    return f"{version_folder(version)}/{BUILDING_FILE}"
