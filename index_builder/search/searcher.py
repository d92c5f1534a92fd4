"""Searching a published index."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from index_builder.search.engine import VECTORS_FILE, Engine, ExactEngine, Settings, TreeEngine, TreeShard
from index_builder.search.own_rows import OwnRows, others_first
from index_builder.search.rows import Hit, Rows
from index_builder.search.version_files import open_version
from store.errors import StoreError, UserError
from store.index import IndexManifest, read_index_manifest
from store.location import Store
from store.measured import ExactConfig, IndexConfig
from store.publication import current_version

__all__ = ["Hit", "Matches", "Searcher"]

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
_T = TypeVar("_T")

PROJECTION_FILE = "projection.npy"

_GROUP_OVERFETCH = 4


@dataclasses.dataclass(frozen=True)
class Matches:
    """Answers to q queries, the best first.

    Attributes:
        rows: int64[q, k] row numbers in this version, -1 where there are fewer than k answers.
        scores: float32[q, k] cosines, NaN where there are fewer.
    """

    rows: Int64
    scores: Float32
    _catalog: Rows

    def image_ids(self) -> list[list[str]]:
        """The pictures' ids; as many for each query as there are answers."""
        return self._for_each_query(self._catalog.image_ids(self.rows[self.rows >= 0]))

    def item_ids(self) -> list[list[str]]:
        """The items' ids; as many for each query as there are answers."""
        return self._for_each_query(self._catalog.item_ids(self.rows[self.rows >= 0]))

    def hits(self, query: int = 0) -> list[Hit]:
        """One query's answers spelled out: ids, score, attributes."""
        there = self.rows[query] >= 0
        return self._catalog.hits(self.rows[query][there], self.scores[query][there])

    def all_hits(self) -> list[list[Hit]]:
        """Every query's answers spelled out, in one pass over the columns."""
        there = self.rows >= 0
        return self._for_each_query(self._catalog.hits(self.rows[there], self.scores[there]))

    def _for_each_query(self, found: list[_T]) -> list[list[_T]]:
        ends = np.cumsum((self.rows >= 0).sum(axis=1)).tolist()
        return [found[start:end] for start, end in zip([0, *ends], ends, strict=False)]

    def without(self, own: OwnRows, k: int) -> Matches:
        """The first `k` answers that are not a query's own rows.

        Args:
            own: What to leave out of each of the q answers.
            k: Answers to keep; to have so many, there must be k more than own rows.
        """
        places, there = others_first(self.rows, own, k)
        rows, scores = (np.take_along_axis(found, places, 1) for found in (self.rows, self.scores))
        return Matches(np.where(there, rows, -1), np.where(there, scores, np.float32(np.nan)), self._catalog)


class Searcher:
    """An open version of an index. Thread-safe; keeps answering when the version is rolled back or pruned.

    That does not hold on a network file system: a file that is deleted there is gone for those who map it, too.

    In memory are the trees (about 1.6 bytes per row and projected dimension) and the row scales; codes, ids and
    attributes are memory-mapped. Versions in an object store are first downloaded to the machine's temporary folder.
    """

    def __init__(self, manifest: IndexManifest, engine: Engine, rows: Rows) -> None:
        self.manifest = manifest
        self.rows = rows
        self._engine = engine

    @property
    def version(self) -> str:
        """The version's name."""
        return self.manifest.version

    @classmethod
    def open(cls, store_uri: str, version: str | None = None, *, verify: bool = False) -> Searcher:
        """Opens the published version, or the one named.

        Args:
            store_uri: Local folder, gs:// or s3:// URI.
            version: A version's name.
            verify: Compare the digests of vectors and codes too, which takes as long as reading them.

        Raises:
            UserError: Nothing is published, or there is no such version.
            StoreError: The version is damaged.
        """
        store = Store(store_uri)
        name = version or current_version(store)
        if name is None:
            raise UserError(f"no index is published in {store_uri}; build one with shelfmark index --store {store_uri}")
        manifest = read_index_manifest(store, name)
        return cls.from_folder(manifest, open_version(store, manifest, verify=verify))

    @classmethod
    def from_folder(cls, manifest: IndexManifest, folder: Path) -> Searcher:
        """Opens a version whose files are in a local folder.

        Raises:
            StoreError: They cannot be read.
        """
        folders = [folder / shard.name for shard in manifest.shards]
        try:
            searcher = cls(manifest, _open_engine(manifest.config, folder, folders), Rows.open(folders))
        except (ValueError, KeyError, OSError) as error:
            raise StoreError(f"{folder}: the index cannot be read: {error}") from error
        if len(searcher.rows) != manifest.vectors:
            raise StoreError(f"{folder}: expected {manifest.vectors} rows, found {len(searcher.rows)}")
        return searcher

    def search(
        self,
        queries: npt.ArrayLike,
        k: int = 10,
        where: Mapping[str, str] | None = None,
        group_by: str | None = None,
    ) -> Matches:
        """Finds the k nearest pictures of each query.

        Args:
            queries: float32[q, D] or float32[D], of any length but 0; embeddings of the manifest's encoder.
            k: Answers wanted, from 1.
            where: Attribute values that every answer must have.
            group_by: "item" for at most one picture, the best, of each item.

        Raises:
            UserError: An attribute that no row has.
            ValueError: Queries of another dimension, not finite or of length 0; k below 1; an unknown `group_by`.
        """
        if k < 1:
            raise ValueError(f"k: expected a whole number from 1, found {k}")
        if group_by not in (None, "item"):
            raise ValueError(f"group_by: expected 'item', found {group_by!r}")
        prepared = self._prepare(queries)
        mask = self.rows.matching(where) if where else None
        if group_by is None:
            return Matches(*self._nearest(prepared, k, mask), self.rows)
        answers = [self._nearest_items(prepared[number : number + 1], k, mask) for number in range(len(prepared))]
        rows, scores = (np.stack(parts) for parts in zip(*answers, strict=True)) if answers else _no_answers(k)
        return Matches(rows, scores, self.rows)

    def _prepare(self, queries: npt.ArrayLike) -> Float32:
        vectors = np.ascontiguousarray(queries, np.float32)
        if vectors.ndim == 1:
            vectors = vectors[None]
        dimension = self.manifest.encoder["embedding_dim"]
        if vectors.ndim != 2 or vectors.shape[1] != dimension:
            raise ValueError(f"queries: expected float32[q, {dimension}], found shape {list(vectors.shape)}")
        if len(vectors) == 1:  # of what one query takes, the general way below is a tenth
            square = float(vectors[0].dot(vectors[0]))
            if 0 < square < math.inf:
                return vectors * np.float32(1 / math.sqrt(square))
        squares = np.einsum("ij,ij->i", vectors, vectors)
        if not (np.isfinite(squares) & (squares > 0)).all():
            raise ValueError("queries: expected finite vectors that are not all zero, found NaN, infinity or zeros")
        return np.asarray(vectors / np.sqrt(squares)[:, None], np.float32)

    def _nearest(self, queries: Float32, count: int, mask: npt.NDArray[np.bool_] | None) -> tuple[Int64, Float32]:
        found = min(count, len(self.rows))
        if mask is None:
            rows, scores = self._engine.nearest(queries, found)
            short = np.flatnonzero(rows[:, -1] < 0)
            if len(short):  # the leaves that were searched hold less: look everywhere
                everywhere = np.ones(len(self.rows), bool)
                rows[short], scores[short] = self._engine.nearest_where(queries[short], found, everywhere)
        else:
            rows, scores = self._engine.nearest_where(queries, found, mask)
        if found == count:
            return rows, scores
        missing = ((0, 0), (0, count - found))
        return np.pad(rows, missing, constant_values=-1), np.pad(scores, missing, constant_values=np.nan)

    def _nearest_items(self, query: Float32, k: int, mask: npt.NDArray[np.bool_] | None) -> tuple[Int64, Float32]:
        count = _GROUP_OVERFETCH * k
        while True:
            rows, scores = (part[0] for part in self._nearest(query, count, mask))
            best: dict[str, int] = {}
            for place, item_id in enumerate(self.rows.item_ids(rows[rows >= 0])):  # missing ones come last
                best.setdefault(item_id, place)
            if len(best) >= k or count >= len(self.rows) or rows[-1] < 0:
                places = list(best.values())[:k]
                missing = (0, k - len(places))
                return (
                    np.pad(rows[places], missing, constant_values=-1),
                    np.pad(scores[places], missing, constant_values=np.nan),
                )
            count *= 4

    def vectors(self, rows: npt.ArrayLike) -> Float32:
        """float32[m, D] of unit norm: the embeddings of rows, restored from what the index holds.

        With a tree they come from int8 codes, within about 0.0002 of the original in any inner product.
        """
        return self._engine.vectors(np.atleast_1d(np.asarray(rows, np.int64)))

    def find_image(self, image_id: str) -> int:
        """The row number of a picture.

        Raises:
            UserError: There is no such picture.
        """
        return int(self._find("image_id", "picture", image_id)[0])

    def find_item(self, item_id: str) -> Int64:
        """int64[m]: row numbers of an item's pictures.

        Raises:
            UserError: There is no such item.
        """
        return self._find("item_id", "item", item_id)

    def _find(self, column: str, what: str, value: str) -> Int64:
        found = self.rows.find(column, value)
        if not len(found):
            raise UserError(f"no {what} {value!r} in index {self.version}")
        return found

    def with_settings(self, **changes: int) -> Searcher:
        """This index, searched otherwise: leaves_to_search, first_candidates, candidates. For measurements.

        Raises:
            ValueError: The index compares with every vector: there is nothing to set.
        """
        if not isinstance(self._engine, TreeEngine):
            raise ValueError("expected an index with a tree, found one that compares with every vector")
        settings = dataclasses.replace(self._engine.settings, **changes)
        return Searcher(self.manifest, self._engine.with_settings(settings), self.rows)


def _no_answers(k: int) -> tuple[Int64, Float32]:
    return np.zeros((0, k), np.int64), np.zeros((0, k), np.float32)


def _open_engine(config: IndexConfig, folder: Path, folders: list[Path]) -> Engine:
    if isinstance(config, ExactConfig):
        return ExactEngine(np.load(folders[0] / VECTORS_FILE, mmap_mode="r").view(np.ndarray))
    shards = [TreeShard.open(shard, config.leaves) for shard in folders]
    return TreeEngine(shards, np.load(folder / PROJECTION_FILE), Settings.of(config))
