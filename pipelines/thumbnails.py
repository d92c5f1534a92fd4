"""Small pictures of catalog rows, for pages that must open offline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from encoder.thumbnails import thumbnail_data_uri
from fetch.fetcher import FetchOptions, ImageFetcher, resolve_uri
from pipelines.console import LOG
from store.errors import UserError
from store.location import Store
from store.rejects import Rejected
from store.snapshot import read_manifest
from transforms.catalog import catalog_base

# A page waits for one picture no longer than a person would.
_FETCH = FetchOptions(connect_timeout_s=5.0, read_timeout_s=10.0, deadline_s=15.0, attempts=2)


class Thumbnails:
    """Turns an image_uri, as a catalog names it, into a data URI; each is fetched once."""

    def __init__(self, base: str, fetch: Callable[[str], bytes]) -> None:
        """Takes where pictures come from.

        Args:
            base: Folder or URL prefix that relative URIs start from.
            fetch: Absolute URI -> encoded bytes; raises Rejected where they cannot be had.
        """
        self._base = base
        self._fetch = fetch
        self._made: dict[str, str | None] = {}

    def __call__(self, image_uri: str) -> str | None:
        """The picture as a data URI, or None where it cannot be fetched or decoded."""
        if image_uri not in self._made:
            self._made[image_uri] = self._make(image_uri)
        return self._made[image_uri]

    def write_page(self, path: Path, page: str) -> None:
        """Writes a page made with these pictures, and says so when not one of them could be had.

        Raises:
            UserError: The file cannot be written.
        """
        try:
            path.write_text(page, encoding="utf-8")
        except OSError as error:
            raise UserError(f"{path}: expected a file that can be written: {error.strerror or error}") from error
        if self._made and not any(self._made.values()):
            LOG.warning(f"{path} has no pictures: none could be read below {self._base!r}; has the catalog moved?")

    def _make(self, image_uri: str) -> str | None:
        try:
            return thumbnail_data_uri(self._fetch(resolve_uri(image_uri, self._base)))
        except Rejected:
            return None


def open_thumbnails(base: str) -> Thumbnails:
    """Thumbnails of pictures below a folder or URL prefix."""
    from pipelines.beam_flags import open_file_systems

    open_file_systems()  # pictures that lie in a bucket are named as such, whatever the prefix
    return Thumbnails(base, ImageFetcher(_FETCH).fetch)


def open_snapshot_thumbnails(store: Store, snapshot: str) -> Thumbnails:
    """Thumbnails of a snapshot's pictures, relative to its catalog.

    Raises:
        UserError: There is no such snapshot.
    """
    return open_thumbnails(catalog_base(read_manifest(store, snapshot).catalog))
