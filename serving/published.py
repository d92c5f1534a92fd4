"""A version opened for serving: checked, warm, with everything a request needs of it."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np

from encoder.model import default_batch_size
from encoder.picture_encoder import PictureEncoder
from encoder.spec import EncoderSpec
from fetch.row_pictures import RowPictures
from index_builder.search import Searcher
from serving.options import ServeOptions
from serving.sources import PictureSources
from store.errors import StoreError
from store.location import Store

_MAX_VALUES = 200
_PROBES = 16
_MIN_FOUND = 0.75
_SAME_SCORE = 0.99


@dataclasses.dataclass(frozen=True)
class ServedVersion:
    """One version. Whoever holds it may go on using it after another has taken its place.

    Attributes:
        searcher: Its index.
        model: What embeds query pictures; None where pictures are not taken.
        attributes: What rows can be filtered by: name, number of distinct values, the most frequent of them.
        pictures: Those of its rows.
        warm_up_s: What opening and checking took.
    """

    searcher: Searcher
    model: PictureEncoder | None
    attributes: list[dict[str, Any]]
    pictures: RowPictures
    warm_up_s: float

    @property
    def version(self) -> str:
        """Its name."""
        return self.searcher.version

    @property
    def snapshot(self) -> str:
        """Of the embeddings that it was built from."""
        return self.searcher.manifest.snapshot

    @property
    def untrained(self) -> bool:
        """Whether its similarities mean nothing."""
        return self.searcher.manifest.untrained


def picture_batch_size(options: ServeOptions) -> int:
    """Pictures that the model takes at once.

    Half of what a catalog is embedded with: while one half is in the model, the other is decoded.
    """
    return options.batch_size or max(1, default_batch_size() // 2)


def open_published(
    options: ServeOptions, sources: PictureSources, version: str | None, before: ServedVersion | None = None
) -> ServedVersion:
    """Opens a version, checks that it finds what it holds, and warms it up.

    Args:
        options: Which store, and whether pictures are embedded.
        sources: Where the catalog's pictures are.
        version: Its name, or None for the one that CURRENT names.
        before: What is served now; its model is used again where the fingerprint is the same.

    Raises:
        UserError: There is no such version, or none is published.
        StoreError: It is damaged, its weights are missing, or it does not find its own rows.
    """
    started_s = time.monotonic()
    searcher = Searcher.open(options.store_uri, version)
    model = _open_model(options, searcher.manifest.encoder, before) if options.pictures else None
    _check_finds_itself(searcher)
    attributes = []
    for name in searcher.rows.attribute_names:
        values, distinct = searcher.rows.value_counts(name, _MAX_VALUES)
        counted = [{"value": value, "rows": rows} for value, rows in values]
        attributes.append({"name": name, "distinct": distinct, "values": counted})
    return ServedVersion(searcher, model, attributes, sources.open_catalog(searcher), time.monotonic() - started_s)


def _open_model(options: ServeOptions, entry: dict[str, Any], before: ServedVersion | None) -> PictureEncoder:
    spec = EncoderSpec.from_manifest(entry)
    if before is not None and before.model is not None and before.model.spec.fingerprint == spec.fingerprint:
        return before.model
    store = Store(options.store_uri)
    return PictureEncoder.open(store, entry, batch_size=picture_batch_size(options), warm_up=True)


def _check_finds_itself(searcher: Searcher) -> None:
    """Looks some rows up by their own vectors, which also brings the index's pages into memory.

    Raises:
        StoreError: Too few of them, or others that are as near, come out on top.
    """
    count = len(searcher.rows)
    if not count:
        return
    rows = np.unique(np.linspace(0, count - 1, _PROBES).astype(np.int64))
    try:
        scores = searcher.search(searcher.vectors(rows), 1).scores[:, 0]
    except ValueError as error:
        raise StoreError(f"version {searcher.version}: cannot be searched: {error}") from error
    found = float(np.mean(scores >= _SAME_SCORE))
    if found < _MIN_FOUND:
        raise StoreError(
            f"version {searcher.version}: expected at least {_MIN_FOUND:.0%} of {len(rows)} rows to be found by their "
            f"own vectors, found {found:.0%}; build the index again or roll back"
        )
