"""Fetching a picture again for people to look at: the one that was embedded, or none."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from store.rejects import Reason, Rejected


def fetch_embedded(fetch: Callable[[str], bytes], uri: str, content_sha256: str) -> bytes:
    """A picture's encoded bytes, if they are still what was embedded.

    What lies behind a URI may be another thing by now, and is not shown under the old one's name to whoever asks.

    Args:
        fetch: URI -> encoded bytes.
        uri: Of the picture.
        content_sha256: Hex, of what was embedded; "" where nobody knows.

    Raises:
        Rejected: changed; or as `fetch` does.
    """
    if not content_sha256:
        raise Rejected(Reason.CHANGED, "expected the digest of what was embedded, found that nothing has kept it")
    data = fetch(uri)
    if hashlib.sha256(data).hexdigest() != content_sha256:
        raise Rejected(Reason.CHANGED, "expected the picture that was embedded, found another one in its place")
    return data
