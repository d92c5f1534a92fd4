"""What the contestants are asked: a snapshot, queries sampled from it, and their exact neighbours."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from benchmarks.vectors import SELECTIVITY, FloatArray, SyntheticCatalog, write_snapshot
from store.location import Store
from store.snapshot import SnapshotManifest, snapshot_folder

K = 10
QUERIES = 1000
_BATCH_ROWS = 8192
_UNFILTERED = "all"


@dataclasses.dataclass(frozen=True, slots=True)
class Questions:
    """Rows of the catalog that are looked up in it, each of which is neither in its own truth nor counted as an answer.

    Attributes:
        rows: int64[q], ascending.
        vectors: float32[q, D].
        truth: By name of a filter in SELECTIVITY, and "all": int64[q, K] rows of the exact neighbours by inner product,
            best first, -1 where fewer match.
    """

    rows: npt.NDArray[np.int64]
    vectors: FloatArray
    truth: dict[str, npt.NDArray[np.int64]]

    @property
    def unfiltered(self) -> npt.NDArray[np.int64]:
        """The truth among all rows."""
        return self.truth[_UNFILTERED]

    @classmethod
    def load(cls, folder: Path) -> Questions:
        """Reads what `prepare` left in `folder`."""
        with np.load(folder / "questions.npz") as file:
            arrays = dict(file)
        return cls(arrays.pop("rows"), arrays.pop("vectors"), arrays)

    def save(self, folder: Path) -> None:
        """Writes what `load` reads."""
        np.savez(folder / "questions.npz", rows=self.rows, vectors=self.vectors, **self.truth)


def prepare(folder: Path, rows: int, seed: int, keep_vectors: bool, filters: bool) -> dict[str, Any]:
    """Writes a new store with a snapshot in `folder`/store, questions.npz and, if asked, vectors.npy beside it.

    vectors.npy is float32[rows, D]. The vectors come from the snapshot as it was written, a batch at a time, twice.

    Returns:
        What there is now, for the record.
    """
    shutil.rmtree(folder / "store", ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    store = Store(str(folder / "store"))
    manifest = write_snapshot(store, rows, seed)
    dimensions = manifest.encoder["embedding_dim"]
    chosen = np.sort(np.random.default_rng(seed + 1).choice(rows, min(QUERIES, rows // 2), replace=False))
    kept = None
    if keep_vectors:
        kept = np.lib.format.open_memmap(folder / "vectors.npy", mode="w+", dtype=np.float32, shape=(rows, dimensions))
    queries = _read_queries(store, manifest, chosen, kept)
    masks = {_UNFILTERED: np.ones(rows, bool)}
    if filters:
        catalog = SyntheticCatalog.draw(rows, seed, dimensions)
        masks |= {name: catalog.flags[name][catalog.item_of_row] for name in SELECTIVITY}
    Questions(chosen, queries, _find_truth(store, manifest, chosen, queries, masks)).save(folder)
    return {
        "rows": rows,
        "dimensions": dimensions,
        "queries": len(chosen),
        "snapshot_mb": sum(file.bytes for file in manifest.files) / 1e6,
        "matching": {name: int(mask.sum()) for name, mask in masks.items()},
        "seconds": manifest.timing["seconds"],
    }


def _read_queries(
    store: Store, manifest: SnapshotManifest, chosen: npt.NDArray[np.int64], kept: FloatArray | None
) -> FloatArray:
    """The vectors of the chosen rows, float32[q, D]; every row's is written to `kept`, float32[rows, D], if given."""
    queries = np.empty((len(chosen), manifest.encoder["embedding_dim"]), np.float32)
    for first, batch in snapshot_vectors(store, manifest):
        here = (chosen >= first) & (chosen < first + len(batch))
        queries[here] = batch[chosen[here] - first]
        if kept is not None:
            kept[first : first + len(batch)] = batch
    return queries


def _find_truth(
    store: Store,
    manifest: SnapshotManifest,
    chosen: npt.NDArray[np.int64],
    queries: FloatArray,
    masks: dict[str, npt.NDArray[np.bool_]],
) -> dict[str, npt.NDArray[np.int64]]:
    """By name of a mask bool[rows]: int64[q, K], the exact neighbours of each query among the rows it lets through."""
    best = {name: Best(chosen) for name in masks}
    for first, batch in snapshot_vectors(store, manifest):
        scores = queries @ batch.T
        for name, mask in masks.items():
            best[name].add(first, scores, mask[first : first + len(batch)])
    return {name: found.rows for name, found in best.items()}


def snapshot_vectors(store: Store, manifest: SnapshotManifest) -> Iterator[tuple[int, FloatArray]]:
    """Row number of the first, and float32[m, D], batch after batch through all files of a snapshot."""
    first = 0
    for part in manifest.files:
        with store.open(f"{snapshot_folder(manifest.snapshot)}/{part.path}") as file:
            for batch in pq.ParquetFile(file).iter_batches(_BATCH_ROWS, columns=["embedding"]):
                vectors = batch.column(0).flatten().to_numpy().reshape(batch.num_rows, -1)
                yield first, vectors
                first += len(vectors)


class Best:
    """The K best rows for each query so far, itself left out."""

    def __init__(self, queries: npt.NDArray[np.int64]) -> None:
        self._queries = queries
        self._scores = np.full((len(queries), K), -np.inf, np.float32)
        self.rows = np.full((len(queries), K), -1, np.int64)

    def add(self, first: int, scores: FloatArray, mask: npt.NDArray[np.bool_]) -> None:
        """Takes in scores float32[q, m] of the rows from `first` on, of which `mask` bool[m] may be answers."""
        rows = first + np.flatnonzero(mask)
        allowed = np.where(rows[None] == self._queries[:, None], -np.inf, scores[:, mask])
        scores = np.concatenate([self._scores, allowed], axis=1)
        candidates = np.concatenate([self.rows, np.broadcast_to(rows, allowed.shape)], axis=1)
        order = np.argpartition(-scores, K - 1, axis=1)[:, :K]
        order = np.take_along_axis(order, np.argsort(-np.take_along_axis(scores, order, 1), axis=1), 1)
        self._scores = np.take_along_axis(scores, order, 1)
        # A query's own row may be among them while there are fewer than K.
        self.rows = np.where(np.isneginf(self._scores), -1, np.take_along_axis(candidates, order, 1))
