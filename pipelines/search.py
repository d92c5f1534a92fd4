"""What looks like this picture, or this item? The use case behind `shelfmark search`, for programs too."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from encoder.picture_encoder import PictureEmbedding, PictureEncoder
from fetch.fetcher import FetchOptions, ImageFetcher
from fetch.policy import ON_REQUEST
from fetch.trust import AUTO, Trust
from index_builder.search import Hit, Query, Searcher, answer, query_of_image, query_of_item
from pipelines.log import LOG
from pipelines.requests import SearchChoices, Uri
from pipelines.search_result import SearchQuery, SearchResult
from pipelines.thumbnails import PageThumbnails, open_index_thumbnails
from store.errors import UserError
from store.index import IndexManifest
from store.location import Store
from store.rejects import Rejected


class PictureError(UserError):
    """A picture that cannot be searched for; the message begins with its name."""


class CatalogSearcher:
    """An open version of a store's index, asked by pictures, items or vectors. Thread-safe but for its first picture.

    The encoder is the one that the catalog was embedded with; it is loaded for the first picture.
    """

    def __init__(self, store: Store, searcher: Searcher, trust: Trust = AUTO) -> None:
        """Takes an index; nothing is loaded yet.

        Args:
            store: Holds the index and the encoder's weights.
            searcher: The open index.
            trust: What the catalog may name when its pictures are shown.
        """
        self._store = store
        self._trust = trust
        self.searcher = searcher

    @property
    def version(self) -> str:
        """Name of the version."""
        return self.searcher.version

    @property
    def manifest(self) -> IndexManifest:
        """What the version says of itself."""
        return self.searcher.manifest

    def __len__(self) -> int:
        return self.manifest.vectors

    def search_pictures(
        self,
        pictures: Sequence[Uri | bytes],
        *,
        k: int = SearchChoices.k,
        where: Mapping[str, str] | None = None,
        group_by: str | None = None,
    ) -> SearchResult:
        """Looks for what looks like pictures.

        Args:
            pictures: Files, URIs, or encoded pictures.
            k: Answers to each.
            where: Attribute values that every answer must have.
            group_by: "item" for the best picture of each item.

        Raises:
            PictureError: A picture cannot be had or embedded.
        UserError: No row has such an attribute.
            StoreError: The weights are missing or damaged.
        """
        names = [_name_of(picture, place) for place, picture in enumerate(pictures)]
        data = fetch_pictures(pictures, names)
        found = self._encoder.embed(data)
        queries = [
            SearchQuery(name, Query(_vector_of(name, outcome)), picture)
            for name, outcome, picture in zip(names, found, data, strict=True)
        ]
        return self.search_queries(queries, SearchChoices(k=k, where=where or {}, group_by=group_by))

    def search_item(
        self,
        item_id: str,
        *,
        k: int = SearchChoices.k,
        where: Mapping[str, str] | None = None,
        group_by: str | None = None,
    ) -> SearchResult:
        """Looks for what looks like an item of the index: the mean of its pictures, none of which is an answer.

        Raises:
            UserError: There is no such item or attribute.
        """
        choices = SearchChoices(k=k, where=where or {}, group_by=group_by)
        query = query_of_item(self.searcher, item_id)
        return self.search_queries([SearchQuery(item_id, query, hit=self._hit(min(query.own)))], choices)

    def search_image_id(
        self,
        image_id: str,
        *,
        k: int = SearchChoices.k,
        where: Mapping[str, str] | None = None,
        group_by: str | None = None,
    ) -> SearchResult:
        """Looks for what looks like a picture of the index, which is no answer itself.

        Raises:
            UserError: There is no such picture or attribute.
        """
        choices = SearchChoices(k=k, where=where or {}, group_by=group_by)
        query = query_of_image(self.searcher, image_id, group_by)
        hit = self._hit(self.searcher.find_image(image_id))
        return self.search_queries([SearchQuery(image_id, query, hit=hit)], choices)

    def search_vectors(
        self,
        vectors: npt.NDArray[np.float32],
        *,
        k: int = SearchChoices.k,
        where: Mapping[str, str] | None = None,
        group_by: str | None = None,
    ) -> SearchResult:
        """Looks for the rows nearest to vectors.

        Args:
            vectors: float32[q, D], any length but 0, of the encoder that the manifest names.
            k: Answers to each.
            where: Attribute values that every answer must have.
            group_by: "item" for the best picture of each item.

        Raises:
            UserError: No row has such an attribute.
            ValueError: The vectors are not of this shape, or not finite.
        """
        queries = [SearchQuery(f"vector {place}", Query(vector)) for place, vector in enumerate(vectors)]
        return self.search_queries(queries, SearchChoices(k=k, where=where or {}, group_by=group_by))

    def search_queries(self, queries: Sequence[SearchQuery], choices: SearchChoices) -> SearchResult:
        """Answers queries that are made already."""
        asked = [query.query for query in queries]
        found = answer(self.searcher, asked, choices.k, choices.where, choices.group_by) if asked else []
        return SearchResult(
            self.version, self.manifest.snapshot, choices, tuple(queries), tuple(found), self._open_thumbnails
        )

    def _hit(self, row: int) -> Hit:
        return self.searcher.rows.hit(row, 1.0)

    def _open_thumbnails(self) -> PageThumbnails:
        return open_index_thumbnails(self._store, self._trust, self.searcher)

    @functools.cached_property
    def _encoder(self) -> PictureEncoder:
        return PictureEncoder.open(self._store, self.manifest.encoder)


def open_searcher(store: Uri, version: str | None = None, *, trust: Trust = AUTO) -> CatalogSearcher:
    """Opens the published version of a store's index, or a named one.

    Args:
        store: Where the index lies.
        version: Its name; None for the published one.
        trust: What the catalog may name when its pictures are shown.

    Raises:
        UserError: There is no such version, or none is published.
        StoreError: It is damaged.
    """
    uri = os.fspath(store)
    searcher = Searcher.open(uri, version)
    if searcher.manifest.untrained:
        LOG.warning(f"The weights ({searcher.manifest.encoder['weights']}) are untrained: similarities mean nothing.")
    return CatalogSearcher(Store(uri), searcher, trust)


def _vector_of(name: str, outcome: PictureEmbedding | Rejected) -> npt.NDArray[np.float32]:
    if isinstance(outcome, Rejected):
        raise PictureError(f"{name}: {outcome}") from outcome
    return outcome.embedding


def _name_of(picture: Uri | bytes, place: int) -> str:
    return f"picture {place}" if isinstance(picture, bytes) else os.fspath(picture)


def fetch_pictures(pictures: Sequence[Uri | bytes], names: Sequence[str]) -> list[bytes]:
    """The encoded bytes of pictures that a user names.

    Raises:
        PictureError: One cannot be had; the message begins with its name.
    """
    fetcher = ImageFetcher(FetchOptions(), ON_REQUEST)
    data = []
    try:
        for picture, name in zip(pictures, names, strict=True):
            try:
                data.append(picture if isinstance(picture, bytes) else fetcher.fetch(os.fspath(picture)))
            except Rejected as rejected:
                raise PictureError(f"{name}: {rejected}") from rejected
    finally:
        fetcher.close()
    return data
