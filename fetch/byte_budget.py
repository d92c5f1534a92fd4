"""How many bytes may be arriving at once, whatever the servers send."""

from __future__ import annotations

import contextlib
import io
import threading
from collections import deque
from collections.abc import Callable, Iterator

from fetch.deadline import Deadline
from fetch.options import MIB
from store.rejects import Reason, Rejected

CHUNK_BYTES = 64 * 1024
FREE_BYTES = MIB
"""Bytes a download may hold before it must draw on the shared budget: most catalog pictures never do."""


class ByteBudget:
    """A number of bytes that threads borrow from, first come first served. Thread-safe."""

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity_bytes = capacity_bytes
        self._free_bytes = capacity_bytes
        self._changed = threading.Condition()
        # A queue, because without one a big request could starve behind a stream of small ones.
        self._waiting: deque[object] = deque()

    @contextlib.contextmanager
    def hold(self, wanted_bytes: int) -> Iterator[None]:
        """Waits until `wanted_bytes` are free and keeps them for the length of the `with` block.

        Raises:
            ValueError: The request is larger than the whole budget and would wait for ever.
        """
        if wanted_bytes > self._capacity_bytes:
            raise ValueError(f"expected at most {self._capacity_bytes} bytes, found a request for {wanted_bytes}")
        self._acquire(wanted_bytes)
        try:
            yield
        finally:
            with self._changed:
                self._free_bytes += wanted_bytes
                self._changed.notify_all()

    def _acquire(self, wanted_bytes: int) -> None:
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            try:
                self._changed.wait_for(lambda: self._waiting[0] is ticket and self._free_bytes >= wanted_bytes)
                self._free_bytes -= wanted_bytes
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()


def too_large(found: str, max_bytes: int) -> Rejected:
    """The reject of a picture over the limit; `found` says how large it is."""
    return Rejected(Reason.TOO_LARGE, f"expected at most {max_bytes} bytes, found {found}")


def read_bounded(
    read: Callable[[int], bytes], expected_bytes: int | None, max_bytes: int, budget: ByteBudget, deadline: Deadline
) -> bytes:
    """Reads a stream to its end within the size limit, the shared budget and the deadline.

    A download that outgrows FREE_BYTES borrows all it may still need at once: its announced size, or `max_bytes`
    where none was announced. So no two half-read downloads can wait for each other, and N threads hold at most
    N * FREE_BYTES plus the budget, where N endless servers could otherwise pin N * max_bytes.

    Args:
        read: Returns up to that many bytes, b"" at the end.
        expected_bytes: The announced size, if it can be trusted as an upper bound.
        max_bytes: The most the picture may have.
        budget: Shared by all downloads of a fetcher.
        deadline: When to give up.

    Raises:
        Rejected: too_large or timeout.
    """
    if expected_bytes is not None and expected_bytes > max_bytes:
        raise too_large(str(expected_bytes), max_bytes)
    arrived = io.BytesIO()  # getvalue() hands its buffer over; joining a list of chunks would hold the picture twice
    with contextlib.ExitStack() as held:
        while chunk := read(CHUNK_BYTES):
            deadline.check()
            before, after = arrived.tell(), arrived.tell() + len(chunk)
            if after > max_bytes:
                raise too_large("more", max_bytes)
            if before <= FREE_BYTES < after:
                with deadline.paused():
                    held.enter_context(budget.hold(max_bytes if expected_bytes is None else expected_bytes))
            arrived.write(chunk)
    return arrived.getvalue()
