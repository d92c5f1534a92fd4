"""Building one shard: a pass over its rows, then its tree. Memory follows the shard, not the catalog."""

from __future__ import annotations

import dataclasses
import io
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from index_builder.build.exact_neighbours import TIES, ExactSearch, Queries
from index_builder.build.snapshot_rows import Batch, SnapshotRows
from index_builder.search.engine import CODES_FILE, SCALES_FILE, TREE_FOLDER, VECTORS_FILE
from index_builder.search.int8_codes import quantise
from index_builder.search.rows import ROWS_FILE, row_table, write_rows
from index_builder.search.tree import Tree, TreeOptions
from index_builder.search.version_files import local_folder
from store.location import Store, as_store_error
from store.snapshot import read_manifest

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

PROJECTED_FILE = "projected.npy"
"""Rows by the strongest components, until the tree is trained; no part of a version."""


WORK_FOLDER = "work"
"""What the processes that build a version tell each other; removed when it is built, no part of a version."""

_GUIDE_FILE = f"{WORK_FOLDER}/guide.npz"


def shard_name(number: int) -> str:
    """The folder of a shard within its version."""
    return f"shard-{number:05d}"


class _NpyWriter:
    """Appends rows to a .npy file whose final length is known; no page of it stays in this process."""

    def __init__(self, file: IO[bytes], dtype: npt.DTypeLike, shape: tuple[int, ...]) -> None:
        self._file = file
        self._dtype = np.dtype(dtype)
        header = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)

    def append(self, rows: npt.NDArray[np.generic]) -> None:
        self._file.write(np.ascontiguousarray(rows, self._dtype).data)


@contextmanager
def _npy_file(path: Path, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> Iterator[_NpyWriter]:
    with open(path, "wb") as file:
        yield _NpyWriter(file, dtype, shape)
        file.flush()
        os.fsync(file.fileno())


@dataclasses.dataclass(frozen=True)
class Ingested:
    """What a pass over a shard's rows found, besides the files it wrote.

    Attributes:
        truth_rows: int64[q, m], the queries' exact neighbours within the shard, by row numbers of the whole snapshot.
        truth_scores: float32[q, m].
        read_s: Seconds spent reading, quantising and projecting.
        truth_s: Seconds spent on exact search.
    """

    truth_rows: Int64
    truth_scores: Float32
    read_s: float
    truth_s: float


def ingest(
    snapshot: SnapshotRows, start: int, stop: int, folder: Path, queries: Queries, k: int, components: Float32 | None
) -> Ingested:
    """Reads rows start to stop once and writes their ids, codes and projections, or, for exact search, their vectors.

    Args:
        snapshot: Where the rows are.
        start: First row.
        stop: One past the last.
        folder: The shard's, on a local disk.
        queries: Whose exact neighbours among these rows are wanted.
        k: How many of them, and as many again as may tie.
        components: float32[D, d], or None for a shard of exact search.

    Raises:
        StoreError: Rows cannot be read or files not written.
    """
    rows, dim = stop - start, snapshot.embedding_dim
    exact = ExactSearch(queries, k + TIES)
    tables: list[pa.Table] = []
    began, truth_s = time.perf_counter(), 0.0
    folder.mkdir(parents=True, exist_ok=True)
    with as_store_error("write", str(folder)):
        scales: list[Float32] = []
        writers = _vector_writers(folder, rows, dim, components)
        with writers as (vectors, projected):
            for batch in snapshot.batches(start, stop):
                tables.append(batch.rows)
                if components is None:
                    vectors.append(batch.embeddings)
                else:
                    scales.append(_append_codes(vectors, projected, batch, components))
                truth_began = time.perf_counter()
                exact.show(batch.start, batch.embeddings)
                truth_s += time.perf_counter() - truth_began
        if components is not None:
            np.save(folder / SCALES_FILE, np.concatenate(scales))
        write_rows(folder / ROWS_FILE, row_table(pa.concat_tables(tables)))
    return Ingested(*exact.best(), time.perf_counter() - began - truth_s, truth_s)


@contextmanager
def _vector_writers(
    folder: Path, rows: int, dim: int, components: Float32 | None
) -> Iterator[tuple[_NpyWriter, _NpyWriter]]:
    if components is None:
        with _npy_file(folder / VECTORS_FILE, np.float32, (rows, dim)) as vectors:
            yield vectors, vectors
        return
    with (
        _npy_file(folder / CODES_FILE, np.int8, (rows, dim)) as codes,
        _npy_file(folder / PROJECTED_FILE, np.float32, (rows, components.shape[1])) as projected,
    ):
        yield codes, projected


def _append_codes(codes: _NpyWriter, projected: _NpyWriter, batch: Batch, components: Float32) -> Float32:
    of_batch, scales = quantise(batch.embeddings)
    codes.append(of_batch)
    projected.append(batch.embeddings @ components)
    return scales


def train_tree(folder: Path, scale: Float32, options: TreeOptions) -> Tree:
    """Trains a tree over the first dimensions of an ingested shard.

    Args:
        folder: The shard's.
        scale: float32[d], what each of the first d components is multiplied by.
        options: Leaves and training.
    """
    mapped = np.load(folder / PROJECTED_FILE, mmap_mode="r")
    projected = np.empty((len(mapped), len(scale)), np.float32)
    for start in range(0, len(mapped), 8_192):
        np.multiply(mapped[start : start + 8_192, : len(scale)], scale, out=projected[start : start + 8_192])
    return Tree.train(projected, options)


@dataclasses.dataclass(frozen=True)
class Guide:
    """What all shards of a version are built by.

    Attributes:
        queries: Whose neighbours are looked for.
        components: float32[D, d].
        scale: float32[d].
    """

    queries: Queries
    components: Float32
    scale: Float32

    def save(self, store: Store, folder: str) -> None:
        """Leaves it in a version's folder for the processes that build shards."""
        arrays = io.BytesIO()
        np.savez(
            arrays, rows=self.queries.rows, vectors=self.queries.vectors, components=self.components, scale=self.scale
        )
        store.replace(f"{folder}/{_GUIDE_FILE}", arrays.getvalue())

    @classmethod
    def load(cls, store: Store, folder: str) -> Guide:
        """Reads what `save` left."""
        with np.load(io.BytesIO(store.read(f"{folder}/{_GUIDE_FILE}")), allow_pickle=False) as arrays:
            return cls(Queries(arrays["rows"], arrays["vectors"]), arrays["components"], arrays["scale"])


@dataclasses.dataclass(frozen=True, slots=True)
class ShardTask:
    """One shard to build, in this process or another, on this machine or another.

    Attributes:
        store: Where snapshot and version are.
        snapshot: Name of the snapshot.
        folder: The version's folder, relative to the store; holds the guide.
        number: Of the shard.
        start: First row.
        stop: One past the last.
        k: Neighbours of each query that are looked for.
        options: Leaves and training.
    """

    store: Store
    snapshot: str
    folder: str
    number: int
    start: int
    stop: int
    k: int
    options: TreeOptions


def build_shard(task: ShardTask) -> None:
    """Builds a whole shard and leaves its files in the version's folder, and what it found beside them.

    Raises:
        StoreError: Rows cannot be read or files not written.
    """
    path = f"{task.folder}/{shard_name(task.number)}"
    guide = Guide.load(task.store, task.folder)
    with local_folder(task.store, path) as folder:
        snapshot = SnapshotRows(task.store, read_manifest(task.store, task.snapshot))
        ingested = ingest(snapshot, task.start, task.stop, folder, guide.queries, task.k, guide.components)
        with as_store_error("write", task.store.full_path(path)):
            train_tree(folder, guide.scale, task.options).save(folder / TREE_FOLDER)
            (folder / PROJECTED_FILE).unlink()
    found = io.BytesIO()
    np.savez(found, **dataclasses.asdict(ingested))
    task.store.replace(_found_path(task), found.getvalue())


def take_findings(task: ShardTask) -> Ingested:
    """What a shard that is built has found."""
    with np.load(io.BytesIO(task.store.read(_found_path(task))), allow_pickle=False) as arrays:
        rows, scores = arrays["truth_rows"], arrays["truth_scores"]
        return Ingested(rows, scores, float(arrays["read_s"]), float(arrays["truth_s"]))


def _found_path(task: ShardTask) -> str:
    return f"{task.folder}/{WORK_FOLDER}/{shard_name(task.number)}.npz"
