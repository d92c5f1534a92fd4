"""Why a catalog row ended without an embedding: one enum and one exception for every stage of the journey."""

from __future__ import annotations

import enum


class Stage(str, enum.Enum):
    """The step of the journey that rejected a row."""

    CATALOG = "catalog"
    FETCH = "fetch"
    DECODE = "decode"
    ENCODE = "encode"


class Reason(str, enum.Enum):
    """What was wrong with a row. Every reason belongs to exactly one stage.

    `changed` is never a row's end: it says why a picture that was embedded is not shown again.
    """

    MISSING_FIELD = "missing_field"
    DUPLICATE_IMAGE_ID = "duplicate_image_id"
    NOT_FOUND = "not_found"
    FORBIDDEN = "forbidden"
    TIMEOUT = "timeout"
    TOO_LARGE = "too_large"
    UNSUPPORTED_SCHEME = "unsupported_scheme"
    FETCH_ERROR = "fetch_error"
    NOT_ALLOWED = "not_allowed"
    CHANGED = "changed"
    EMPTY = "empty"
    NOT_AN_IMAGE = "not_an_image"
    TRUNCATED = "truncated"
    UNSUPPORTED_FORMAT = "unsupported_format"
    TOO_MANY_PIXELS = "too_many_pixels"
    NOT_FINITE = "not_finite"

    @property
    def stage(self) -> Stage:
        """The stage this reason belongs to."""
        return _STAGE_OF[self]


_STAGE_OF = {
    **dict.fromkeys((Reason.MISSING_FIELD, Reason.DUPLICATE_IMAGE_ID), Stage.CATALOG),
    **dict.fromkeys(
        (
            Reason.NOT_FOUND,
            Reason.FORBIDDEN,
            Reason.TIMEOUT,
            Reason.TOO_LARGE,
            Reason.UNSUPPORTED_SCHEME,
            Reason.FETCH_ERROR,
            Reason.NOT_ALLOWED,
            Reason.CHANGED,
        ),
        Stage.FETCH,
    ),
    **dict.fromkeys(
        (
            Reason.EMPTY,
            Reason.NOT_AN_IMAGE,
            Reason.TRUNCATED,
            Reason.UNSUPPORTED_FORMAT,
            Reason.TOO_MANY_PIXELS,
        ),
        Stage.DECODE,
    ),
    Reason.NOT_FINITE: Stage.ENCODE,
}


class Rejected(Exception):
    """One row cannot be embedded; the run goes on.

    Attributes:
        reason: Why, as the store records it.
        detail: One line for a person: what was expected and what was found.
        passing: Whether the cause may be gone tomorrow (a timeout, a server in trouble), the picture being as it was.
    """

    def __init__(self, reason: Reason, detail: str, *, passing: bool = False) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail
        self.passing = passing
