"""One request at a time through `serving.access`, without a server."""

from __future__ import annotations

import asyncio
import json
import types
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

import pytest
from prometheus_client import REGISTRY

from serving.access import Access

Message = MutableMapping[str, Any]
App = Callable[[Any, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
LONG_S = 120.0


class Sent:
    """What went out to the client."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.begun = asyncio.Event()

    async def send(self, message: Message) -> None:
        self.messages.append(message)
        self.begun.set()

    @property
    def status(self) -> int:
        (start,) = [message for message in self.messages if message["type"] == "http.response.start"]
        return int(start["status"])

    @property
    def headers(self) -> dict[str, str]:
        pairs = [(name.decode(), value.decode()) for name, value in self.messages[0]["headers"]]
        assert len(pairs) == len(dict(pairs)), "a header is there twice"
        return dict(pairs)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)


async def call(
    app: App,
    method: str = "GET",
    path: str = "/v1/index",
    *,
    headers: Sequence[tuple[str, str]] = (),
    body: Sequence[bytes] = (b"",),
    timeout_s: float = LONG_S,
    sent: Sent | None = None,
) -> Sent:
    """One request; a body without parts never comes."""
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
    }
    waiting = list(body)
    sent = sent or Sent()

    async def receive() -> Message:
        if not waiting:
            await asyncio.Event().wait()
        part = waiting.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(waiting)}

    await asyncio.wait_for(Access(app, timeout_s)(scope, receive, sent.send), 2 * LONG_S)
    return sent


def run_request(app: App, *arguments: Any, **options: Any) -> Sent:
    return asyncio.run(call(app, *arguments, **options))


def answering(status: int, body: bytes = b"answer", *headers: tuple[bytes, bytes], path: str = "/v1/index") -> App:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["route"] = types.SimpleNamespace(path_format=path)
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        await send({"type": "http.response.body", "body": body})

    return app


def logged(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]


def count(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"shelfmark_{name}", labels) or 0.0
