"""Where a serving process gets pictures that no request carries: the catalog's own, and those that a URL leads to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fetch.options import FetchOptions
from fetch.public_fetcher import PublicFetcher
from fetch.row_pictures import RowPictures, shared_fetcher
from fetch.uris import catalog_base
from index_builder.search import PictureDigests, Searcher
from serving.options import ServeOptions
from store.errors import UserError
from store.location import Store
from store.snapshot import read_manifest

_FETCH = FetchOptions(connect_timeout_s=3.0, read_timeout_s=5.0, deadline_s=10.0, attempts=2)
"""As long as a person waits for a picture."""


class PictureSources:
    """The sources of one process. Thread-safe; creating one does no I/O."""

    def __init__(self, options: ServeOptions) -> None:
        """Takes what may be fetched.

        Args:
            options: Which store, and what its catalog and requests may name.

        Raises:
            UserError: A host makes no sense.
        """
        self._options = options
        self._store = Store(options.store_uri)
        self.fetch_url = open_url_fetcher(options.allowed_hosts)
        """URL of a stranger's picture -> encoded bytes, or Rejected; None where URLs are not taken."""

    def open_catalog(self, searcher: Searcher) -> RowPictures:
        """The pictures of a version's rows.

        Raises:
            UserError: Its snapshot is gone.
            StoreError: Its snapshot is damaged.
        """
        options, snapshot = self._options, searcher.manifest.snapshot
        base = catalog_base(read_manifest(self._store, snapshot).catalog)
        policy = options.trust.policy(base).only_hosts(options.allowed_hosts)
        if options.pictures_base is not None:
            base = options.pictures_base
            policy = policy.also_below(base)
        digests = PictureDigests(self._store, snapshot, searcher.rows)
        return RowPictures(shared_fetcher(_FETCH, policy).fetch, base, digests.of, self._store)


def open_url_fetcher(allowed_hosts: Sequence[str]) -> Callable[[str], bytes] | None:
    """What fetches strangers' URLs, from these hosts at public addresses alone; None where there are no hosts.

    Raises:
        UserError: A host makes no sense.
    """
    if not allowed_hosts:
        return None
    try:
        return PublicFetcher(allowed_hosts, _FETCH).fetch
    except ValueError as error:
        raise UserError(f"--allow_fetch: {error}") from error
