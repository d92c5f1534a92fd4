"""HTTP/1.1 connections that cannot be held open for nothing: uvicorn's, with limits on what it waits for and keeps."""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

MAX_HEAD_BYTES = 64 << 10
MAX_PIPELINED = 64
"""Requests that a client may send on one connection while an earlier one is being answered."""

MIN_READ_BYTES = 16 << 10
"""What a client must read of a long answer in the time that it has for a head."""


class TooManyRequests(Exception):
    """A client sends requests and does not wait for answers."""


def limited_protocol(header_timeout_s: float, max_connections: int) -> Any:
    """What makes uvicorn's connections, with limits. It can be pickled: workers are started with it.

    By itself uvicorn waits for a request's head for ever and keeps any amount of it, of trailers and of requests that
    are sent ahead, and it waits for ever for a client to read the last of an answer: one such client for each
    connection that is allowed would end the service for everybody else.

    Args:
        header_timeout_s: Seconds for a head to be complete, and between looks at how much of an answer has been read.
        max_connections: A connection beyond these is closed as it comes.
    """
    return functools.partial(_LimitedProtocol, header_timeout_s=header_timeout_s, max_connections=max_connections)


class _LimitedProtocol(HttpToolsProtocol):
    """A connection of uvicorn's with the limits."""

    _head_timer: asyncio.TimerHandle | None = None
    _reading_timer: asyncio.TimerHandle | None = None
    _idle_bytes = 0
    _in_head = True
    _unread_bytes: int | None = None
    _running: RequestResponseCycle | None = None

    def __init__(self, *, header_timeout_s: float, max_connections: int, **usual: Any) -> None:
        super().__init__(**usual)
        self._header_timeout_s = header_timeout_s
        self._max_connections = max_connections

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.flow = _OneByOne(transport, self.pipeline)
        if len(self.connections) > self._max_connections:
            transport.abort()
            return
        self._await_head()
        self._await_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        if self._reading_timer is not None:
            self._reading_timer.cancel()
        if self._running is not None and not self._running.response_complete:
            # uvicorn tells the request that came last, which may be another.
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head and self._head_timer is None:
            self._await_head()
        self._idle_bytes += len(data)
        super().data_received(data)
        if self._idle_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response(f"Expected a request's head and trailers of at most {MAX_HEAD_BYTES} bytes.")

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= MAX_PIPELINED:
            raise TooManyRequests  # the parser ends the connection for it
        super().on_message_begin()
        if self._head_timer is None:
            self._await_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # what comes after a body is not kept
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._idle_bytes = 0
        self._stop_head_timer()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._idle_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head = True
        self._idle_bytes = 0
        self._stop_head_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._in_head and self._head_timer is None:
            self._await_head()  # answered before its body has come: the rest of it must come soon

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self._header_timeout_s, self._close_idle)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _close_idle(self) -> None:
        self._head_timer = None
        if self._running is not None and not self._running.response_complete:
            self._await_head()  # the request before has a time limit of its own
        elif not self.transport.is_closing():
            self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread_bytes = None

    def _await_reading(self) -> None:
        self._reading_timer = self.loop.call_later(self._header_timeout_s, self._check_reading)

    def _check_reading(self) -> None:
        is_waiting = self.flow.write_paused or self.transport.is_closing()
        unread_bytes = self.transport.get_write_buffer_size() if is_waiting else None
        before_bytes = self._unread_bytes
        if unread_bytes is not None and before_bytes is not None and before_bytes - unread_bytes < MIN_READ_BYTES:
            self.transport.abort()
            return
        self._unread_bytes = unread_bytes
        self._await_reading()


class _OneByOne(FlowControl):
    """Reads no further while a request waits for the answer to an earlier one."""

    def __init__(self, transport: asyncio.Transport, pipeline: deque[Any]) -> None:
        super().__init__(transport)
        self._pipeline = pipeline

    def resume_reading(self) -> None:
        """Reads on, unless a request that has been read waits."""
        if not self._pipeline:
            super().resume_reading()
