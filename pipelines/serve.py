"""Where a serving process gets pictures from that no request carries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pipelines.trust import AUTO, Trust
from serving.options import PictureSources
from store.errors import UserError

if TYPE_CHECKING:
    from fetch.options import FetchOptions
    from index_builder.search import Searcher
    from pipelines.row_pictures import RowPictures


def open_sources(
    store_uri: str, pictures: str | None, allowed_hosts: tuple[str, ...], trust: Trust = AUTO
) -> PictureSources:
    """Where a serving process gets pictures from that no request carries.

    Args:
        store_uri: Has the snapshots, which name their catalogs.
        pictures: What relative image_uris start from, or None for the catalog's own folder.
        allowed_hosts: Of URLs in requests and in the catalog; none turns them off.
        trust: What else the catalog may name.
    """
    from index_builder.search import PictureDigests
    from pipelines.beam_flags import open_file_systems
    from pipelines.row_pictures import RowPictures, shared_fetcher
    from store.location import Store
    from store.snapshot import read_manifest
    from transforms.catalog import catalog_base

    open_file_systems()
    store = Store(store_uri)

    def open_catalog(searcher: Searcher) -> RowPictures:
        snapshot = searcher.manifest.snapshot
        own_base = catalog_base(read_manifest(store, snapshot).catalog)
        policy = trust.policy(own_base).only_hosts(allowed_hosts)
        if pictures is not None:
            policy = policy.also_below(pictures)
        fetch = shared_fetcher(_patience(), policy).fetch
        base = own_base if pictures is None else pictures
        return RowPictures(fetch, base, PictureDigests(store, snapshot, searcher.rows).of, store)

    return PictureSources(open_catalog, open_url_fetcher(allowed_hosts))


def open_url_fetcher(allowed_hosts: Sequence[str]) -> Callable[[str], bytes] | None:
    """Fetches strangers' pictures from these hosts and no others; None where there are none.

    Raises:
        UserError: A host makes no sense.
    """
    if not allowed_hosts:
        return None
    from fetch.public_fetcher import PublicFetcher

    try:
        return PublicFetcher(allowed_hosts, _patience()).fetch
    except ValueError as error:
        raise UserError(f"--allow_fetch: {error}") from error


def _patience() -> FetchOptions:
    """As long as a person waits for a picture."""
    from fetch.options import FetchOptions

    return FetchOptions(connect_timeout_s=3.0, read_timeout_s=5.0, deadline_s=10.0, attempts=2)
