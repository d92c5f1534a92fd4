"""The time one picture may take, down to each read from a socket."""

from __future__ import annotations

import contextlib
import contextvars
import http.client
import io
import socket
from collections.abc import Callable, Iterator
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from store.rejects import Reason, Rejected


class Deadline:
    """Counts down the seconds one picture may still take. Belongs to one thread."""

    def __init__(self, clock: Callable[[], float], limit_s: float) -> None:
        self._clock = clock
        self._limit_s = limit_s
        self._ends_at_s = clock() + limit_s

    def remaining_s(self) -> float:
        """Seconds left; zero or less once the time is up."""
        return self._ends_at_s - self._clock()

    def check(self) -> None:
        """Raises Rejected(timeout) once the time is up."""
        if self.remaining_s() <= 0:
            raise Rejected(
                Reason.TIMEOUT, f"expected the whole picture within {self._limit_s:g} s, found it unfinished"
            )

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stops the countdown while a picture queues behind others: their slowness is not its fault."""
        started_s = self._clock()
        try:
            yield
        finally:
            self._ends_at_s += self._clock() - started_s


# The deadline cannot be handed through urllib3, which opens and reads connections in the caller's own thread.
current_deadline: contextvars.ContextVar[Deadline] = contextvars.ContextVar("current_deadline")


class _DeadlineSocket(io.RawIOBase):
    """Reads a socket until the current deadline.

    A socket's timeout starts anew with every byte, and http.client reads a response's head, its chunk sizes and its
    trailers without giving its caller a chance to stop. Only here can all of them be cut off.
    """

    def __init__(self, sock: socket.socket, raw: io.RawIOBase) -> None:
        self._sock = sock
        self._raw = raw
        self._read_timeout_s = sock.gettimeout()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        remaining_s = current_deadline.get().remaining_s()
        if remaining_s <= 0:
            raise TimeoutError("deadline passed")
        if self._read_timeout_s is None or remaining_s < self._read_timeout_s:
            self._sock.settimeout(remaining_s)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _DeadlineResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_DeadlineSocket(sock, self.fp.detach()), 64 * 1024)


class DeadlineHttpConnection(HTTPConnection):
    """urllib3's connection, whose responses obey `current_deadline`."""

    response_class = _DeadlineResponse


class DeadlineHttpsConnection(HTTPSConnection):
    """urllib3's connection, whose responses obey `current_deadline`."""

    response_class = _DeadlineResponse


class DeadlineHttpPool(HTTPConnectionPool):
    """urllib3's pool, whose responses obey `current_deadline`."""

    ConnectionCls = DeadlineHttpConnection


class DeadlineHttpsPool(HTTPSConnectionPool):
    """urllib3's pool, whose responses obey `current_deadline`."""

    ConnectionCls = DeadlineHttpsConnection
