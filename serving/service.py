"""Everything that lives as long as the server, and how a search goes through it."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from encoder.picture_encoder import PictureEmbedding, PictureEncoder
from index_builder.search import Hit, Query, query_of_image, query_of_item
from serving import metrics
from serving.keys import ApiKeys
from serving.options import ServeOptions
from serving.pictures import PictureEmbedder
from serving.problem import Problem
from serving.published import ServedVersion
from serving.refusals import refused
from serving.schemas import SearchDocument
from serving.search_request import DEFAULT_K, MAX_ANSWERS, Options, SearchRequest, Vector
from serving.searching import Search, SearchThreads
from serving.sources import PictureSources
from serving.thumbnails import ThumbnailCache
from serving.uploads import Forms, UploadBudget
from serving.watcher import Watcher
from serving.work_queue import Full, WorkQueue, call_each
from store.rejects import Reason, Rejected

# Fetching is waiting: several at once for every processor.
_FETCH_THREADS = 8


class Service:
    """The parts of a running server. Starting one starts their threads."""

    def __init__(self, options: ServeOptions, sources: PictureSources, watcher: Watcher, max_batch: int) -> None:
        """Takes what was opened already.

        Args:
            options: The limits.
            sources: Where pictures come from that no request carries.
            watcher: Has the version to answer from.
            max_batch: Pictures that the model takes at once.
        """
        self.options = options
        self.sources = sources
        self.watcher = watcher
        self.keys = ApiKeys(options.api_keys)
        self.uploads = UploadBudget(options.max_uploads_bytes)
        self.forms = Forms(options.max_waiting_pictures)
        self.pictures = PictureEmbedder(options, max_batch)
        self.threads = SearchThreads(options)
        self.thumbnails = ThumbnailCache(options)
        # A thread of its own: the loop's executor would be waited for at the end, however long a version takes to open.
        self._reloading: WorkQueue[Callable[[], bool], bool] = WorkQueue("reload", call_each, max_waiting=1)
        self._looking = asyncio.Lock()
        self._next_look: asyncio.Future[bool] | None = None
        self._fetching: WorkQueue[Callable[[], bytes], bytes] = WorkQueue(
            "fetch", call_each, max_waiting=options.max_waiting_pictures, threads=_FETCH_THREADS
        )

    def close(self) -> None:
        """Stops every thread."""
        self.watcher.stop()
        for part in (self.forms, self.pictures, self.threads, self.thumbnails, self._fetching, self._reloading):
            part.close()

    async def search(
        self, published: ServedVersion, asked: SearchRequest
    ) -> tuple[list[list[Hit]], PictureEmbedding | None]:
        """The answers to each query, and the query picture if there was one.

        Raises:
            Problem: 404, 422 or 503, as the parts say.
        """
        options = asked.options
        _check_attributes(published, options)
        picture: PictureEmbedding | None = None
        if asked.picture is not None:
            picture = await self._embed(published, asked.picture, options)
            queries = [Query(picture.embedding)]
        else:
            assert asked.document is not None
            queries, picture = await self._queries(published, asked.document, asked.vectors, options)
        k = options.k or DEFAULT_K
        if k * len(queries) > MAX_ANSWERS:
            raise Problem(422, f"expected at most {MAX_ANSWERS:,} answers in all, found {k} to {len(queries)} queries")
        search = Search(published.searcher, tuple(queries), k, options.sorted_where, options.group_by)
        return await self.threads.search(search), picture

    async def find_row(self, published: ServedVersion, image_id: str) -> Hit:
        """A picture of the index.

        Raises:
            Problem: 404, there is no such picture; 503.
        """
        searcher = published.searcher
        return await self.threads.look_up(lambda: searcher.rows.hit(searcher.find_image(image_id), 1.0))

    async def reload(self) -> bool:
        """Looks at CURRENT now; whether another version is served than before.

        Who asks while a look is under way waits for the next, for this one may have read CURRENT before it changed; and
        all of them share that one.
        """
        if self._next_look is None:
            self._next_look = asyncio.ensure_future(self._look())
        return await asyncio.shield(self._next_look)

    async def _look(self) -> bool:
        async with self._looking:
            self._next_look = None
            return await self._reloading.submit(self.watcher.reload)

    async def similar(self, published: ServedVersion, item_id: str, options: Options) -> list[Hit]:
        """Other items that look like one.

        Raises:
            Problem: 404, there is no such item; 422; 503.
        """
        _check_attributes(published, options)
        k = options.k or DEFAULT_K
        return await self.threads.similar(published.searcher, item_id, k, options.sorted_where)

    async def _queries(
        self, published: ServedVersion, document: SearchDocument, vectors: Sequence[Vector], options: Options
    ) -> tuple[list[Query], PictureEmbedding | None]:
        searcher = published.searcher
        if document.image_url is not None or options.crop is not None:
            _model_of(published)  # before anything is fetched
        if document.image_url is not None:
            picture = await self._embed(published, await self._fetch_url(document.image_url), options)
            return [Query(picture.embedding)], picture
        if document.image_id is not None:
            look = functools.partial(query_of_image, searcher, document.image_id, options.group_by)
            query = await self.threads.look_up(look)
            if options.crop is None:
                return [query], None
            row = await self.find_row(published, document.image_id)
            data = await self._fetch(functools.partial(published.pictures.fetch, row.image_uri, row.row), "")
            picture = await self._embed(published, data, options)
            return [Query(picture.embedding, query.own)], picture
        if options.crop is not None:
            raise Problem(422, "crop: expected with a picture, found with vectors or an item_id")
        if document.item_id is not None:
            return [await self.threads.look_up(functools.partial(query_of_item, searcher, document.item_id))], None
        dimension = searcher.manifest.encoder["embedding_dim"]
        return [Query(_as_query(vector, number, dimension)) for number, vector in enumerate(vectors)], None

    async def _embed(self, published: ServedVersion, data: bytes, options: Options) -> PictureEmbedding:
        return await self.pictures.embed(data, _model_of(published), options.crop)

    async def _fetch_url(self, url: str) -> bytes:
        fetch = self.sources.fetch_url
        if fetch is None:
            raise Problem(
                422, "image_url: this server fetches no pictures (see --allow_fetch); send the picture itself"
            )
        self.pictures.check_room()
        try:
            data = await self._fetch(functools.partial(fetch, url), "image_url")
        except Problem:
            metrics.FETCHES.labels("failed").inc()
            raise
        metrics.FETCHES.labels("fetched").inc()
        return data

    async def _fetch(self, fetch: Callable[[], bytes], field: str) -> bytes:
        """`field` is where the request has the picture's URL; the catalog's own URIs are not told."""
        try:
            return await self._fetching.submit(fetch)
        except Full as full:
            raise refused("fetches_full", "too many pictures are being fetched", full.retry_after_s) from full
        except Rejected as rejected:
            metrics.PICTURES_REJECTED.labels(rejected.reason.value).inc()
            said = f"{field}: {rejected.detail}" if field else f"the catalog's picture: {rejected.reason.value}"
            status = 404 if rejected.reason is Reason.NOT_FOUND else 422
            raise Problem(status, said, reason=rejected.reason.value) from rejected


def _model_of(published: ServedVersion) -> PictureEncoder:
    """Raises Problem 422 where pictures are not taken."""
    if published.model is None:
        raise Problem(422, "expected vectors or ids: this server takes no pictures (--no_pictures)")
    return published.model


def _check_attributes(published: ServedVersion, options: Options) -> None:
    """Raises Problem 422 for an attribute that no row has."""
    known = published.searcher.rows.attribute_names
    for name in options.where or ():
        if name not in known:
            raise Problem(422, f"where: expected one of {', '.join(known) or 'no attribute'}, found {name[:40]!r}")


def _as_query(vector: Vector, number: int, dimension: int) -> npt.NDArray[np.float32]:
    """float32[D] of unit norm.

    Raises:
        Problem: 422, another D, or a length of 0 or infinity.
    """
    if len(vector) != dimension:
        raise Problem(422, f"vector {number}: expected {dimension} numbers, found {len(vector)}")
    wide = vector.astype(np.float64, copy=False)  # the square of a float32 may be too large, or too small, for one
    square = float(wide @ wide)
    if not 0 < square < np.inf:
        raise Problem(422, f"vector {number}: expected numbers of a finite length above 0, found {square}")
    return (wide / np.sqrt(square)).astype(np.float32)
