"""Errors as problem documents (RFC 9457): what was expected, what was found."""

from __future__ import annotations

import http
import math
from typing import Any

import orjson
from fastapi import Response

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """A request that is answered with an error.

    Attributes:
        status: Of the answer, 400 to 599.
        detail: One line for a person.
        headers: Beyond the usual.
        more: Further members of the document.
    """

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None, **more: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}
        self.more = more

    def response(self, request_id: str) -> Response:
        """The document."""
        document = {
            "type": "about:blank",
            "title": http.HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "request_id": request_id,
            **self.more,
        }
        return Response(orjson.dumps(document), self.status, self.headers, media_type=MEDIA_TYPE)


def busy(what: str, retry_after_s: float) -> Problem:
    """503: there is no room now.

    Args:
        what: That is full, such as "64 pictures are waiting".
        retry_after_s: When there may be; told in whole seconds.
    """
    seconds = max(1, math.ceil(retry_after_s))
    return Problem(503, f"busy: {what}; try again in {seconds} s", {"Retry-After": str(seconds)})
