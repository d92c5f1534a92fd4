"""Small pictures of an index's rows, for pages that must open offline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from encoder.thumbnails import thumbnail_data_uri
from fetch.fetcher import FetchOptions
from fetch.row_pictures import RowPictures, shared_fetcher
from fetch.trust import Trust
from fetch.uris import catalog_base
from index_builder.search import Hit, PictureDigests, Searcher
from pipelines.log import LOG
from store.errors import UserError
from store.location import Store
from store.rejects import Rejected
from store.shortage import ShortageError
from store.snapshot import read_manifest

# A page waits for one picture no longer than a person would.
_FETCH = FetchOptions(connect_timeout_s=5.0, read_timeout_s=10.0, deadline_s=15.0, attempts=2)


class PageThumbnails:
    """Turns a row, as an answer spells it out, into a data URI; each is made once."""

    def __init__(self, pictures: RowPictures) -> None:
        self._pictures = pictures
        self._made: dict[int, str | None] = {}

    def __call__(self, hit: Hit) -> str | None:
        """The picture as a data URI, or None where it cannot be had or is not what was embedded."""
        if hit.row not in self._made:
            self._made[hit.row] = self._make(hit)
        return self._made[hit.row]

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
            LOG.warning(
                f"{path} has no pictures: none could be read below {self._pictures.base!r}; has the catalog moved, or "
                "may it not name them (--trust)?"
            )

    def _make(self, hit: Hit) -> str | None:
        try:
            stored = self._pictures.stored_thumbnail(hit.row)
            return thumbnail_data_uri(self._pictures.fetch(hit.image_uri, hit.row) if stored is None else stored)
        except (Rejected, ShortageError, MemoryError):  # a page without a picture is better than none
            return None


def open_thumbnails(
    base: str, trust: Trust, digest_of: Callable[[int], str], store: Store | None = None
) -> PageThumbnails:
    """Thumbnails of a catalog's pictures.

    Args:
        base: Where the catalog's relative URIs start from.
        trust: What it may name.
        digest_of: Row number -> digest of what was embedded.
        store: May hold thumbnails.

    Raises:
        UserError: A flag makes no sense.
    """
    return PageThumbnails(RowPictures(shared_fetcher(_FETCH, trust.policy(base)).fetch, base, digest_of, store))


def open_index_thumbnails(store: Store, trust: Trust, searcher: Searcher) -> PageThumbnails:
    """Thumbnails of an index's rows: those that were stored, or else of the catalog's own pictures.

    Raises:
        UserError: Its snapshot is gone, or a flag makes no sense.
    """
    snapshot = searcher.manifest.snapshot
    base = catalog_base(read_manifest(store, snapshot).catalog)
    return open_thumbnails(base, trust, PictureDigests(store, snapshot, searcher.rows).of, store)
