"""Request bodies: limited one by one and all together, and read before anything else waits for them."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from serving.options import UNCOUNTED_BYTES
from serving.problem import Problem
from serving.refusals import refused
from serving.work_queue import Full, WorkQueue, call_each

Form = tuple[dict[str, list[str]], bytes | None]
"""Text fields, and the file `image` if there is one."""

_MAX_FIELDS = 64
_MOST_BOUNDARIES = 2 * (_MAX_FIELDS + 1)
_MOST_PADDING = 64


class UploadBudget:
    """Bytes of bodies that all requests together may hold. Counted as they come: who sends slowly holds little.

    The first `UNCOUNTED_BYTES` of each body are not counted.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self.held_bytes = 0

    def take(self, size_bytes: int) -> None:
        """Counts bytes that have come.

        Raises:
            Problem: 503, there is no room for them.
        """
        if self.held_bytes + size_bytes > self._limit_bytes:
            raise refused("uploads_full", "too many uploads at once", 2)
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
        read_bytes = 0
        more = True
        while more:
            message = await self._request.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            part, more = message.get("body", b""), message.get("more_body", False)
            read_bytes += len(part)
            if read_bytes > self._limit_bytes:
                raise self._too_large("more")
            counted_bytes = max(0, read_bytes - UNCOUNTED_BYTES) - self._held_bytes
            self._budget.take(counted_bytes)
            self._held_bytes += counted_bytes
            parts.append(part)
        self._request.scope["state"]["bytes_in"] = read_bytes
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _too_large(self, found: str) -> Problem:
        return Problem(413, f"expected a body of at most {self._limit_bytes:,} bytes, found {found}")


class Forms:
    """Reads forms in a thread: the time that it takes is not that of all other requests."""

    def __init__(self, max_waiting: int) -> None:
        """Starts the thread.

        Args:
            max_waiting: Forms that wait for it.
        """
        self._reading: WorkQueue[Callable[[], Form], Form] = WorkQueue("form", call_each, max_waiting=max_waiting)

    async def read(self, content_type: str, body: bytes) -> Form:
        """What `read_form` gives.

        Raises:
            Problem: As `read_form`; 503, too many wait.
        """
        try:
            return await self._reading.submit(functools.partial(read_form, content_type, body))
        except Full as full:
            raise refused("uploads_full", "too many forms are being read", full.retry_after_s) from full

    def close(self) -> None:
        """Stops the thread."""
        self._reading.close()


class _InMemory(MultiPartParser):
    """Keeps files in memory: the whole body is there already, and has a limit."""

    spool_max_size = 1 << 40


def read_form(content_type: str, body: bytes) -> Form:
    """The text fields and the file `image` of a multipart/form-data body.

    Args:
        content_type: The header.
        body: The whole body.

    Raises:
        Problem: 400, the body is no such form, or has several files; 422, a file of another name.
    """

    async def stream() -> AsyncIterator[bytes]:
        yield body

    headers = Headers({"content-type": content_type})
    parser = _InMemory(headers, stream(), max_files=1, max_fields=_MAX_FIELDS)  # type: ignore[arg-type]
    try:
        _check_cost(content_type, body)
        form = asyncio.run(parser.parse())
    except (MultiPartException, ValueError, KeyError, LookupError) as error:
        raise Problem(400, f"expected a multipart/form-data body with one file, found: {error}") from error
    fields: dict[str, list[str]] = {}
    picture: bytes | None = None
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            if name != "image":
                raise Problem(422, f"expected the picture in a file field named image, found {name[:40]!r}")
            picture = value.file.read()
        else:
            fields.setdefault(name, []).append(value)
    return fields, picture


def _check_cost(content_type: str, body: bytes) -> None:
    """Raises MultiPartException for what would take seconds.

    The parser walks through padding and near-boundaries byte by byte, and some of the charsets that Python knows take
    the square of a text's length.
    """
    parameters = parse_options_header(content_type)[1]
    charset = parameters.get(b"charset", b"utf-8")
    if charset.lower() != b"utf-8":
        raise MultiPartException(f"charset {charset[:40].decode('latin-1')}; send UTF-8")
    boundary = parameters.get(b"boundary", b"")
    pieces = body.split(b"--" + boundary, _MOST_BOUNDARIES + 1)
    if len(pieces) > _MOST_BOUNDARIES + 1:
        raise MultiPartException(f"more than {_MOST_BOUNDARIES} boundaries")
    if any(len(piece) > _MOST_PADDING and not piece[: _MOST_PADDING + 1].strip(b" \t") for piece in pieces[1:]):
        raise MultiPartException(f"more than {_MOST_PADDING} spaces after a boundary")
