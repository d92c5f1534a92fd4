"""Keeps the server on the version that CURRENT names: opens the next beside the one in use, checks it, swaps."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import os
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from serving import metrics
from serving.logs import LOG
from serving.published import ServedVersion
from store.errors import StoreError, UserError
from store.machine import proc_fields

_MAX_RETRY_S = 600.0
_LOOK_FOR_SIGN_S = 0.5
_NICENESS = 10


@dataclasses.dataclass(frozen=True, slots=True)
class RefusedVersion:
    """A version that CURRENT names and that is not served.

    Attributes:
        version: Its name; "" where CURRENT itself cannot be read.
        reason: One line.
    """

    version: str
    reason: str


class Watcher:
    """Holds the version that requests are answered from, and a thread that looks for the next.

    A version that was refused is tried again after a while that doubles, for a store may only have been out of reach.
    """

    def __init__(
        self,
        first: ServedVersion,
        read_current: Callable[[], str | None],
        open_version: Callable[[str, ServedVersion], ServedVersion],
        *,
        poll_interval_s: float,
        sign: Path | None = None,
        on_closed: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Takes what to serve first; `start` begins to watch.

        Args:
            first: The version to begin with.
            read_current: The name in CURRENT.
            open_version: Name, what is served now -> the version, checked and warm.
            poll_interval_s: Seconds between looks at CURRENT.
            sign: A file that other workers touch when they were told to look.
            on_closed: Called with the name of a version that nobody uses any more, in a thread of its own.
            clock: Seconds, never going back.
        """
        self._current = first
        self._read_current = read_current
        self._open_version = open_version
        self._poll_interval_s = poll_interval_s
        self._sign = sign
        self._on_closed = on_closed
        self._clock = clock
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._seen_sign = self._sign_time()
        self._refused: RefusedVersion | None = None
        self._retry_at_s = 0.0
        self._retry_after_s = poll_interval_s
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)
        _announce(first)

    @property
    def current(self) -> ServedVersion:
        """What to answer from; hold on to it for as long as one request lasts."""
        return self._current

    @property
    def refused(self) -> RefusedVersion | None:
        """What CURRENT names and is not served, if anything."""
        return self._refused

    def start(self) -> None:
        """Begins to watch."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Ends watching. A version whose opening takes longer than `timeout_s` is left to end with the process."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def reload(self) -> bool:
        """Looks now, a refused version included, and tells the other workers to.

        Returns:
            Whether another version is served than before.
        """
        if self._sign is not None:
            self._sign.touch()
            self._seen_sign = self._sign_time()  # for the others: here it is done now
        return self.look(insist=True)

    def look(self, insist: bool = False) -> bool:
        """Compares CURRENT with what is served, and swaps if it names another.

        Args:
            insist: Try a version that was refused before its time.

        Returns:
            Whether another version is served than before.
        """
        with self._lock:
            name = ""
            try:
                name = self._read_current() or ""
                if not name:
                    raise StoreError("expected a published version, found none; CURRENT is gone")
                if name == self._current.version:
                    self._accept()
                    return False
                known = self._refused is not None and self._refused.version == name
                if known and not insist and self._clock() < self._retry_at_s:
                    return False
                self._swap(name)
                return True
            except Exception as error:  # whatever is wrong with a version, the one in use must go on
                if not isinstance(error, (StoreError, UserError)):
                    LOG.exception("unexpected", extra={"version": name})
                self._refuse(name, " ".join(str(error).split()) or type(error).__name__)
                return False

    def _swap(self, name: str) -> None:
        before = self._current
        with metrics.SWAP_S.time():
            opened = _open_at_low_priority(functools.partial(self._open_version, name, before))
        self._current = opened
        self._accept()
        metrics.SWAPS.labels("swapped").inc()
        _announce(opened, before)
        weakref.finalize(before, _close, before.version, self._on_closed).atexit = False
        del before
        gc.collect(1)  # young garbage of the opening, before it grows old beside a model's million objects

    def _accept(self) -> None:
        self._refused = None
        self._retry_after_s = self._poll_interval_s
        metrics.VERSION_REFUSED.set(0)

    def _refuse(self, name: str, reason: str) -> None:
        again = self._refused is not None and self._refused.version == name
        self._retry_after_s = min(2 * self._retry_after_s, _MAX_RETRY_S) if again else self._poll_interval_s
        self._retry_at_s = self._clock() + self._retry_after_s
        self._refused = RefusedVersion(name, reason)
        metrics.VERSION_REFUSED.set(1)
        metrics.SWAPS.labels("refused").inc()
        if name:
            self._on_closed(name)
        LOG.error("refused", extra={"version": name, "reason": reason, "serving": self._current.version})

    def _watch(self) -> None:
        next_look_s = self._clock() + self._poll_interval_s
        pause_s = min(_LOOK_FOR_SIGN_S, self._poll_interval_s) if self._sign else self._poll_interval_s
        while not self._stop.wait(pause_s):
            told = self._sign_time()
            is_told = told != self._seen_sign
            if is_told or self._clock() >= next_look_s:
                self._seen_sign = told
                self.look(insist=is_told)
                next_look_s = self._clock() + self._poll_interval_s

    def _sign_time(self) -> int:
        try:
            return self._sign.stat().st_mtime_ns if self._sign else 0
        except OSError:
            return 0


def _open_at_low_priority(open_version: Callable[[], ServedVersion]) -> ServedVersion:
    """Opens a version in a thread that lets requests go first.

    Linux knows the priority of each thread, and only a new thread can be rid of a lower one again.
    """
    opened: Future[ServedVersion] = Future()

    def run() -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        try:
            opened.set_result(open_version())
        except Exception as error:
            opened.set_exception(error)

    threading.Thread(target=run, name="open", daemon=True).start()
    return opened.result()


def _close(version: str, on_closed: Callable[[str], None]) -> None:
    """The last request on a version may end in the event loop's thread, which must not wait for a disk."""
    LOG.info("closed", extra={"version": version})
    threading.Thread(target=on_closed, args=(version,), name="close", daemon=True).start()


def _announce(published: ServedVersion, before: ServedVersion | None = None) -> None:
    """Log line and gauges of the version that is served from now on."""
    manifest = published.searcher.manifest
    if before is not None:
        metrics.INDEX.labels(*_labels(before)).set(0)
    metrics.INDEX.labels(*_labels(published)).set(1)
    metrics.INDEX_VECTORS.set(manifest.vectors)
    metrics.INDEX_RECALL.set(manifest.recall.measured)
    metrics.INDEX_LOADED.set(time.time())
    if published.untrained:
        LOG.warning("untrained", extra={"weights": manifest.encoder.get("weights"), "so": "similarities mean nothing"})
    LOG.info(
        "opened",
        extra={
            "version": published.version,
            "snapshot": published.snapshot,
            "vectors": manifest.vectors,
            "recall": manifest.recall.measured,
            "index_memory_bytes": manifest.memory_bytes,
            "resident_bytes": 1024 * int(proc_fields("self/status").get("VmRSS", "0 kB").split()[0]),
            "warm_up_s": round(published.warm_up_s, 2),
            "pictures": published.model is not None,
            "untrained": published.untrained,
        },
    )


def _labels(published: ServedVersion) -> tuple[str, str, str, str]:
    entry = published.searcher.manifest.encoder
    return published.version, published.snapshot, str(entry.get("backbone", "")), str(entry.get("precision", ""))
