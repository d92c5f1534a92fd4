"""API keys: who holds one of them may ask."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from starlette.datastructures import Headers

from serving.problem import Problem


class ApiKeys:
    """Compares in a time that depends neither on how much of a key is right nor on which key it is."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [_digest(key.encode()) for key in keys]

    def check(self, headers: Headers) -> None:
        """Looks for a key in `Authorization: Bearer KEY` or `X-API-Key: KEY`; without keys everyone may ask.

        Raises:
            Problem: 401.
        """
        if not self._digests:
            return
        scheme, _, credentials = headers.get("authorization", "").partition(" ")
        given = credentials.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        digest = _digest(given.encode("latin-1"))  # as its bytes came
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        if not any(matches):
            found = "another" if given else "none"
            raise Problem(
                401,
                f"expected an API key as Authorization: Bearer KEY or X-API-Key: KEY, found {found}",
                {"WWW-Authenticate": "Bearer"},
            )


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
