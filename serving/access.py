"""What every request passes through: an id, a time limit, headers, a log line, metrics."""

from __future__ import annotations

import asyncio
import functools
import re
import secrets
import time
from collections.abc import Awaitable
from typing import Any

from prometheus_client import Counter, Histogram
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving import metrics
from serving.logs import LOG, log_request
from serving.problem import Problem, busy, failure

_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SECURITY = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_SECURITY_HEADERS = [(name.lower().encode(), value.encode()) for name, value in _SECURITY.items()]
_NO_LIMIT = ("/v1/reload",)
_LAST_WORDS_S = 5.0
_CLIENT_LEFT = 499  # as proxies log it; no answer was sent
_QUIET = ("/healthz", "/readyz", "/metrics")


class Access:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, timeout_s: float) -> None:
        """Takes the application.

        Args:
            app: The application.
            timeout_s: For one request, from its head to the last byte of its answer.
        """
        self._app = app
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = _Request(scope, receive, send)
        metrics.IN_FLIGHT.inc()
        try:
            limit_s = None if scope["path"] in _NO_LIMIT else self._timeout_s
            if not await _within(limit_s, self._app(scope, request.receive, request.send)):
                await request.give_up(self._timeout_s)
        except ClientDisconnect:
            pass  # nobody is left to answer
        except Exception as error:  # a request must not end the server
            await request.fail(error)
        finally:
            metrics.IN_FLIGHT.dec()
            request.record()


async def _within(limit_s: float | None, answering: Awaitable[None]) -> bool:
    """Waits for an answer; False where the limit ended it. A tenth of the cost of anyio's scopes, for every request."""
    task = asyncio.current_task()
    if limit_s is None or task is None:
        await answering
        return True
    over = False

    def end() -> None:
        nonlocal over
        over = True
        task.cancel()

    timer = asyncio.get_running_loop().call_later(limit_s, end)
    try:
        await answering
    except asyncio.CancelledError:
        if not over:
            raise
        return False
    finally:
        timer.cancel()
    return True


class _Request:
    """One request on its way through."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        self.id = given if _SANE_ID.fullmatch(given) else secrets.token_hex(16)
        self._scope = scope
        self._receive = receive
        self._send = send
        self._started_s = time.perf_counter()
        self._body_is_here = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
        self._status = 0
        self._bytes_out = 0
        scope.setdefault("state", {}).update(request_id=self.id, bytes_in=0)

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            self._body_is_here = True
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = list(message.get("headers", ()))
            headers += _SECURITY_HEADERS
            headers.append((b"x-request-id", self.id.encode()))
            if not any(name == b"cache-control" for name, _ in headers):
                headers.append((b"cache-control", b"no-store"))
            message = {**message, "headers": headers}
        else:
            self._bytes_out += len(message.get("body", b""))
        await self._send(message)

    async def give_up(self, timeout_s: float) -> None:
        """Answers in place of an application that took too long, unless its answer had begun."""
        if self._body_is_here:
            problem = busy(f"the request took longer than {timeout_s:g} s", 2)
        else:
            problem = Problem(408, f"expected the whole request within {timeout_s:g} s", {"Connection": "close"})
        await self._answer(problem)

    async def fail(self, error: Exception) -> None:
        """Logs what happened, and answers in place of an application that has not."""
        LOG.error("failed", exc_info=error, extra={"request_id": self.id})
        await self._answer(failure(error))

    async def _answer(self, problem: Problem) -> None:
        if self._status:
            return
        response = problem.response(self.id)
        # A client that does not read gets no more time than that.
        await _within(_LAST_WORDS_S, response(self._scope, self.receive, self.send))

    def record(self) -> None:
        """Metrics and the log line."""
        took_s = time.perf_counter() - self._started_s
        route = self._scope.get("route")
        path = getattr(route, "path_format", None) or getattr(route, "path", "unmatched")
        method = self._scope["method"] if self._scope["method"] in _METHODS else "other"
        status = self._status or _CLIENT_LEFT
        answered, took = _series(path, method, status)
        answered.inc()
        took.observe(took_s)
        if path in _QUIET and self._status < 400:
            return
        state: dict[str, Any] = self._scope["state"]
        log_request(
            {
                "request_id": self.id,
                "method": self._scope["method"],
                "route": path,
                "status": status,
                "duration_ms": round(1000 * took_s, 2),
                "bytes_in": state["bytes_in"],
                "bytes_out": self._bytes_out,
            }
        )


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@functools.lru_cache(maxsize=1024)
def _series(route: str, method: str, status: int) -> tuple[Counter, Histogram]:
    """What one kind of request is counted in; looking a series up by its labels costs more than counting."""
    return metrics.REQUESTS.labels(route, method, str(status)), metrics.REQUEST_S.labels(route)
