"""The catalog that a user names, found where it lies."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from fetch.fetcher import FetchOptions, ImageFetcher
from fetch.trust import Trust
from fetch.uris import table_kind
from store.errors import UserError
from store.location import Store
from store.rejects import Rejected
from store.snapshot import snapshot_folder
from transforms.catalog import Catalog, find_catalog

_MAX_TABLE_BYTES = 1 << 30


def open_named_catalog(uri: str | os.PathLike[str], scratch: Store, snapshot: str, trust: Trust) -> Catalog:
    """A catalog as a user names it; a table behind http(s) is copied to `scratch`.

    Args:
        uri: A relative path means one below the working folder.
        scratch: Where the copy goes.
        snapshot: The run's snapshot.
        trust: What the user allows it to name.

    Raises:
        UserError: It cannot be had, or is no catalog.
    """
    fetcher = ImageFetcher(
        FetchOptions(max_image_bytes=_MAX_TABLE_BYTES, max_in_flight_bytes=_MAX_TABLE_BYTES, deadline_s=600.0),
        trust.policy_of_table(),
    )
    try:
        return open_catalog(_absolute(os.fspath(uri)), scratch, snapshot, fetcher.fetch)
    finally:
        fetcher.close()


def _absolute(catalog: str) -> str:
    """A relative path means another catalog in another folder, where the next run, or a page's pictures, may start."""
    return catalog if "://" in catalog else os.path.abspath(catalog)


def open_catalog(uri: str, store: Store, snapshot: str, fetch_bytes: Callable[[str], bytes]) -> Catalog:
    """Finds a catalog; a table behind http(s) is first copied into the snapshot's folder, for every worker to read.

    Args:
        uri: As the user gave it.
        store: Where the copy goes.
        snapshot: The run's snapshot.
        fetch_bytes: URI -> bytes, for http(s).

    Raises:
        UserError: See `find_catalog`.
    """
    if not re.match(r"https?://", uri):
        return find_catalog(uri)
    folder, name = re.sub(r"[?#].*", "", uri).rsplit("/", 1)
    if table_kind(name) is None:
        raise UserError(f"--catalog {uri}: expected a .csv, .jsonl or .parquet table behind http(s), found {name!r}")
    path = f"{snapshot_folder(snapshot)}/catalog-{name}"
    try:
        store.replace(path, fetch_bytes(uri))
    except Rejected as rejected:
        raise UserError(f"--catalog {uri}: {rejected.detail}") from rejected
    return find_catalog(uri, pattern=store.full_path(path), base=folder)
