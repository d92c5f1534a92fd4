"""HTTP/1.1 connections that cannot be held open for nothing: uvicorn's, with limits on what it waits for and keeps."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

MAX_HEAD_BYTES = 64 << 10
MAX_PIPELINED = 64
"""Requests that a client may send on one connection while an earlier one is being answered."""


class TooManyRequests(Exception):
    """A client sends requests and does not wait for answers."""


def limited_protocol(header_timeout_s: float, max_connections: int) -> type[HttpToolsProtocol]:
    """uvicorn's protocol with limits.

    uvicorn waits for a request's head for ever and keeps any amount of it, of trailers and of requests that are sent
    ahead, and it waits for ever for a client to read the last of an answer: one such client for each connection that is
    allowed would end the service for everybody else.

    Args:
        header_timeout_s: Seconds for a head to be complete, and at least as many for the last bytes to be read.
        max_connections: A connection beyond these is closed as it comes.
    """

    class LimitedProtocol(HttpToolsProtocol):
        _head_timer: asyncio.TimerHandle | None = None
        _end_timer: asyncio.TimerHandle | None = None
        _idle_bytes = 0
        _in_head = True
        _is_ending = False
        _running: RequestResponseCycle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.flow = _OneByOne(transport, self.pipeline)
            if len(self.connections) > max_connections:
                transport.abort()
                return
            self._await_head()
            self._await_end()

        def connection_lost(self, exc: Exception | None) -> None:
            for timer in (self._head_timer, self._end_timer):
                if timer is not None:
                    timer.cancel()
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

        def on_header(self, name: bytes, value: bytes) -> None:
            if self._in_head:  # what comes after a body is not kept
                super().on_header(name, value)

        def on_headers_complete(self) -> None:
            self._in_head = False
            self._idle_bytes = 0
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            self._idle_bytes = 0
            super().on_body(body)

        def on_message_complete(self) -> None:
            self._in_head = True
            self._idle_bytes = 0
            super().on_message_complete()

        def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
            self._running = cycle
            super()._start_asgi_task(cycle, app)

        def _await_head(self) -> None:
            self._head_timer = self.loop.call_later(header_timeout_s, self._close_idle)

        def _close_idle(self) -> None:
            self._head_timer = None
            if self._running is not None and not self._running.response_complete:
                self._await_head()  # the request before has a time limit of its own
            elif not self.transport.is_closing():
                self.transport.close()

        def _await_end(self) -> None:
            self._end_timer = self.loop.call_later(header_timeout_s, self._end)

        def _end(self) -> None:
            if self._is_ending:
                self.transport.abort()  # closed for long, and still the client has not read what was sent
                return
            self._is_ending = self.transport.is_closing()
            self._await_end()

    return LimitedProtocol


class _OneByOne(FlowControl):
    """Reads no further while a request waits for the answer to an earlier one."""

    def __init__(self, transport: asyncio.Transport, pipeline: deque[Any]) -> None:
        super().__init__(transport)
        self._pipeline = pipeline

    def resume_reading(self) -> None:
        """Reads on, unless a request that has been read waits."""
        if not self._pipeline:
            super().resume_reading()
