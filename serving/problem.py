"""Errors as problem documents (RFC 9457): what was expected, what was found."""

from __future__ import annotations

import http
import math
from typing import Any

import orjson
from fastapi import Response

from store.shortage import shortage_of

MEDIA_TYPE = "application/problem+json"

_SHORT_RETRY_S = 5.0


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


def failure(error: Exception) -> Problem:
    """What a request is answered that an unexpected exception ended: 503 where the process ran short, 500 elsewhere."""
    shortage = shortage_of(error)
    if shortage is not None:
        return busy(f"the server has run short of {shortage.lack.value}", _SHORT_RETRY_S)
    return Problem(500, "an error on the server's side; its log has more under this request_id")
