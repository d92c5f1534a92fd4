"""What tells two states of a picture's source apart, so that what has not changed is not fetched again."""

from __future__ import annotations

import dataclasses
import email.utils
from collections.abc import Mapping

_FILE, _OBJECT, _ETAG, _MODIFIED = "file:", "object:", "etag:", "modified:"

RACY_S = 2.0
"""A file or page that changed so shortly before it was read may change once more without looking younger: file systems
and HTTP dates count in steps of up to two seconds."""

_LONGEST = 512 + len(_MODIFIED)


@dataclasses.dataclass(frozen=True, slots=True)
class Fetched:
    """A picture's encoded bytes.

    Attributes:
        data: As they lie in the file or come from the server.
        source_version: Of the source when they were read; "" where it does not tell.
    """

    data: bytes
    source_version: str


def is_told_by_source(version: str) -> bool:
    """Whether a version comes from a file system or server, and not from a catalog's column."""
    return version.startswith((_FILE, _OBJECT, _ETAG, _MODIFIED))


def of_file(size_bytes: int, modified_ns: int, read_at_s: float) -> str:
    """Size and modification time; "" for a file that may still be changing.

    Args:
        size_bytes: Before it is read.
        modified_ns: Nanoseconds since the epoch.
        read_at_s: Seconds since the epoch.
    """
    return "" if read_at_s - modified_ns / 1e9 < RACY_S else f"{_FILE}{size_bytes}-{modified_ns}"


def of_object(checksum: object) -> str:
    """What an object store tells of an object's content: its etag or checksum."""
    return f"{_OBJECT}{checksum}" if checksum else ""


def of_response(headers: Mapping[str, str]) -> str:
    """The ETag, else Last-Modified where the server's own clock says that it is past (RFC 9110, section 8.8)."""
    etag = headers.get("ETag", "").strip()
    if etag:
        return f"{_ETAG}{etag}" if _can_be_sent(etag) else ""
    modified = headers.get("Last-Modified", "").strip()
    try:
        age = email.utils.parsedate_to_datetime(headers.get("Date", "")) - email.utils.parsedate_to_datetime(modified)
        return f"{_MODIFIED}{modified}" if age.total_seconds() >= RACY_S and _can_be_sent(modified) else ""
    except (TypeError, ValueError):
        return ""


def _can_be_sent(value: str) -> bool:
    return len(value) <= _LONGEST and value.isascii() and value.isprintable()


def conditional_headers(known: str) -> dict[str, str]:
    """What asks a server to answer 304 where its picture still has the known version; {} where it has none to give."""
    if not _can_be_sent(known):
        return {}  # what a catalog called its version, not what a server did
    if known.startswith(_ETAG):
        return {"If-None-Match": known.removeprefix(_ETAG)}
    if known.startswith(_MODIFIED):
        return {"If-Modified-Since": known.removeprefix(_MODIFIED)}
    return {}
