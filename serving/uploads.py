"""Request bodies: limited one by one and all together, and read before anything else waits for them."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from serving import metrics
from serving.problem import Problem, busy

_MAX_FIELDS = 64


class UploadBudget:
    """Bytes of bodies that all requests together may hold. Counted as they come: who sends slowly holds little."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self.held_bytes = 0

    def take(self, size_bytes: int) -> None:
        """Counts bytes that have come.

        Raises:
            Problem: 503, there is no room for them.
        """
        if self.held_bytes + size_bytes > self._limit_bytes:
            metrics.REFUSED.labels("uploads_full").inc()
            raise busy("too many uploads at once", 2)
        self.held_bytes += size_bytes

    def give_back(self, size_bytes: int) -> None:
        """Counts bytes that are no longer held."""
        self.held_bytes -= size_bytes


class Upload:
    """One request's body, counted against the budget while the `with` block runs."""

    def __init__(self, request: Request, limit_bytes: int, budget: UploadBudget) -> None:
        self._request = request
        self._limit_bytes = limit_bytes
        self._budget = budget
        self._held_bytes = 0

    def __enter__(self) -> Upload:
        return self

    def __exit__(self, *_: object) -> None:
        self._budget.give_back(self._held_bytes)

    async def read(self) -> bytes:
        """The whole body.

        Raises:
            Problem: 413, it is larger than one may be; 503, all together are.
        """
        announced = self._request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > self._limit_bytes:
            raise self._too_large(f"{int(announced):,} bytes")
        parts: list[bytes] = []
        more = True
        while more:
            message = await self._request.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            part, more = message.get("body", b""), message.get("more_body", False)
            if self._held_bytes + len(part) > self._limit_bytes:
                raise self._too_large("more")
            self._budget.take(len(part))
            self._held_bytes += len(part)
            parts.append(part)
        self._request.scope["state"]["bytes_in"] = self._held_bytes
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _too_large(self, found: str) -> Problem:
        return Problem(413, f"expected a body of at most {self._limit_bytes:,} bytes, found {found}")


class _InMemory(MultiPartParser):
    """Keeps files in memory: the whole body is there already, and has a limit."""

    spool_max_size = 1 << 40


async def read_form(request: Request, body: bytes) -> tuple[dict[str, list[str]], bytes | None]:
    """The text fields and the file `image` of a multipart/form-data body.

    Raises:
        Problem: 400, the body is no such form, or has several files; 422, a file of another name.
    """

    async def stream() -> AsyncIterator[bytes]:
        yield body

    parser = _InMemory(request.headers, stream(), max_files=1, max_fields=_MAX_FIELDS)  # type: ignore[arg-type]
    try:
        form = await parser.parse()
    except (MultiPartException, ValueError, KeyError, LookupError) as error:
        raise Problem(400, f"expected a multipart/form-data body with one file, found: {error}") from error
    fields: dict[str, list[str]] = {}
    picture: bytes | None = None
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            if name != "image":
                raise Problem(422, f"expected the picture in a file field named image, found {name[:40]!r}")
            picture = await value.read()
        else:
            _check_text(name, value)
            fields.setdefault(name, []).append(value)
    return fields, picture


def _check_text(name: str, value: str) -> None:
    """Raises Problem 400 for half a character, which some of the charsets that a form may name can make."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Problem(400, f"{name[:40]!r}: expected text in UTF-8, found other bytes") from None
