"""Small pictures that a run stores of what it embeds, by the digest of the original: reuse copies nothing."""

from __future__ import annotations

import re

from store.location import Store

FOLDER = "thumbnails"

_DIGEST = re.compile(r"[0-9a-f]{64}")


def thumbnail_path(content_sha256: str) -> str:
    """Where the thumbnail of a picture lies in the store."""
    if not _DIGEST.fullmatch(content_sha256):
        raise ValueError(f"expected a SHA-256 in hex, found {content_sha256[:80]!r}")
    return f"{FOLDER}/{content_sha256[:2]}/{content_sha256}.jpg"


def has_thumbnail(store: Store, content_sha256: str) -> bool:
    """Whether there is one. Raises StoreError."""
    return store.size_bytes(thumbnail_path(content_sha256)) is not None


def write_thumbnail(store: Store, content_sha256: str, jpeg: bytes) -> None:
    """Stores a JPEG. Raises StoreError."""
    store.replace(thumbnail_path(content_sha256), jpeg)


def read_thumbnail(store: Store, content_sha256: str) -> bytes | None:
    """The JPEG, or None where none was stored. Raises StoreError."""
    if not content_sha256:
        return None
    try:
        return store.read(thumbnail_path(content_sha256))
    except FileNotFoundError:
        return None
