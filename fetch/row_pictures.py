"""Pictures of an index's rows, for people to look at: as they were embedded, within what their catalog may name."""

from __future__ import annotations

import functools
from collections.abc import Callable

from fetch.embedded import fetch_embedded
from fetch.fetcher import ImageFetcher
from fetch.options import FetchOptions
from fetch.policy import FetchPolicy
from fetch.uris import resolve_uri
from store.location import Store
from store.thumbnails import read_thumbnail


class RowPictures:
    """The pictures of a catalog's rows. Thread-safe; creating one does no I/O."""

    def __init__(
        self, fetch: Callable[[str], bytes], base: str, digest_of: Callable[[int], str], store: Store | None = None
    ) -> None:
        """Takes where pictures come from.

        Args:
            fetch: Absolute URI -> encoded bytes; raises Rejected where they cannot be had.
            base: Folder or URL prefix that relative URIs start from.
            digest_of: Row number -> digest of what was embedded, "" where it is not known.
            store: May hold thumbnails; None where none were stored.
        """
        self.base = base
        self._fetch = fetch
        self._digest_of = digest_of
        self._store = store

    def fetch(self, image_uri: str, row: int) -> bytes:
        """The encoded picture of a row.

        Raises:
            Rejected: changed, where it is not what was embedded; not_allowed; or as every fetch is.
        """
        return fetch_embedded(self._fetch, resolve_uri(image_uri, self.base), self._digest_of(row))

    def stored_thumbnail(self, row: int) -> bytes | None:
        """The JPEG that `shelfmark embed --thumbnails` has stored, or None.

        Raises:
            StoreError: The store cannot be read.
        """
        return None if self._store is None else read_thumbnail(self._store, self._digest_of(row))


@functools.lru_cache(maxsize=8)
def shared_fetcher(options: FetchOptions, policy: FetchPolicy) -> ImageFetcher:
    """One for all versions of an index that are served in turn: each keeps connections."""
    return ImageFetcher(options, policy)
