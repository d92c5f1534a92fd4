"""One of two versions that are compared: its ids on disk, its rows' contents, and the neighbours that it finds."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from index_builder.build.exact_neighbours import TIES
from index_builder.build.snapshot_rows import SnapshotRows
from index_builder.search.rows import ROWS_FILE
from index_builder.search.searcher import Searcher
from index_builder.search.version_files import open_version
from store.errors import StoreError
from store.index import IndexManifest, read_index_manifest
from store.location import Store, as_store_error
from store.parts import open_part
from store.snapshot import read_manifest, snapshot_folder

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

TIE = 1e-6
"""Scores this close are the same: copies of one picture, multiplied in another order."""

_BLOCK_IDS = 16_000_000
"""Ids hashed at a time, some 1.3 GB; a catalog of n blocks is passed over n times."""

_READERS = 8


@dataclasses.dataclass(frozen=True, slots=True)
class Neighbours:
    """A probe's neighbours in one version.

    Attributes:
        image_ids: At least k of them where there are as many, the best first, the probe itself left out.
        scores: float32[len(image_ids)] cosines.
        complete: Whether nothing that was not looked at could tie with the k-th.
    """

    image_ids: list[str]
    scores: Float32
    complete: bool


class ComparedVersion:
    """One of the two versions. Its ids stay on disk, memory-mapped; row numbers are those of its snapshot."""

    def __init__(self, store: Store, version: str) -> None:
        self.manifest: IndexManifest = read_index_manifest(store, version)
        self._folder = open_version(store, self.manifest)
        self._store = store
        paths = [self._folder / shard.name / ROWS_FILE for shard in self.manifest.shards]
        tables = [pa.ipc.open_file(pa.memory_map(str(path))).read_all() for path in paths]
        self._ids = [chunk for table in tables for chunk in table["image_id"].chunks if len(chunk)]
        self._starts = np.cumsum([0, *map(len, self._ids)])

    def blocks(self) -> Iterator[tuple[int, pa.Array]]:
        """All image_ids, at most _BLOCK_IDS at a time, each block with the number of its first row."""
        for chunk, start in zip(self._ids, self._starts, strict=False):
            for offset in range(0, len(chunk), _BLOCK_IDS):
                yield int(start) + offset, chunk.slice(offset, _BLOCK_IDS)

    def count_of(self, image_ids: pa.Array) -> int:
        """How many of some image_ids it has."""
        return pc.sum(pc.is_in(pa.chunked_array(self._ids, pa.string()), value_set=image_ids)).as_py() or 0

    def ids(self, rows: Int64) -> pa.Array:
        """The image_ids of rows, given in rising order."""
        bounds = np.searchsorted(rows, self._starts)
        pieces = zip(self._ids, self._starts, bounds[:-1], bounds[1:], strict=False)
        return pa.concat_arrays(
            [pa.array([], pa.string()), *(chunk.take(pa.array(rows[a:b] - start)) for chunk, start, a, b in pieces)]
        )

    def find(self, image_ids: pa.Array) -> Int64:
        """The row number of each image_id, -1 where it has none."""
        rows = np.full(len(image_ids), -1, np.int64)
        for start, block in self.blocks():
            found = pc.index_in(block, value_set=image_ids)
            here = np.flatnonzero(found.is_valid().to_numpy(zero_copy_only=False))
            rows[found.drop_null().to_numpy()] = start + here
        return rows

    def digests(self, rows: Int64) -> list[str]:
        """content_sha256 of rows, given in any order, from the snapshot; reads only their row groups.

        Raises:
            UserError: The snapshot was pruned.
            StoreError: It cannot be read, or does not hold what the version is made of.
        """
        snapshot = read_manifest(self._store, self.manifest.snapshot)
        order = np.argsort(rows)
        rising = rows[order]
        starts = np.cumsum([0, *(part.rows for part in snapshot.parts)])
        bounds = np.searchsorted(rising, starts)
        wanted = [
            (snapshot_folder(snapshot.snapshot), part.path, rising[a:b] - start)
            for part, start, a, b in zip(snapshot.parts, starts, bounds[:-1], bounds[1:], strict=False)
            if a < b
        ]
        with ThreadPoolExecutor(_READERS) as pool:
            read = pa.concat_tables(pool.map(lambda part: _read_identity(self._store, *part), wanted))
        if not read["image_id"].combine_chunks().equals(self.ids(rising)):
            raise StoreError(
                f"version {self.manifest.version}: expected the rows of snapshot {snapshot.snapshot} in their order, "
                "found others; build the index again"
            )
        digests = np.empty(len(rows), object)
        digests[order] = read["content_sha256"].to_pylist()
        return list(digests)

    def embeddings(self, rows: Int64) -> Float32:
        """float32[n, D] of rows, given in any order, as the snapshot holds them.

        Raises:
            UserError: The snapshot was pruned.
            StoreError: It cannot be read.
        """
        order = np.argsort(rows)
        vectors = SnapshotRows.open(self._store, self.manifest.snapshot).vectors(rows[order])
        return vectors[np.argsort(order)]

    def indexed(self, rows: Int64) -> Float32:
        """float32[n, D] of rows as the index itself has them, restored from its codes where it keeps no more."""
        return Searcher.from_folder(self.manifest, self._folder).vectors(rows)

    def neighbours(self, rows: Int64, queries: Float32, k: int) -> list[Neighbours]:
        """Each row's neighbours, found as a reader would who asks with `queries`: float32[n, D], one for each row.

        Asks for more than k, as much as tells ties apart.
        """
        searcher = Searcher.from_folder(self.manifest, self._folder)
        depth = k + TIES
        found = searcher.search(queries, depth + 1).without(rows, depth)
        answers = []
        for near, cosines, image_ids in zip(found.rows, found.scores, found.image_ids(), strict=True):
            scores = cosines[near >= 0]
            complete = len(scores) < depth or bool(scores[-1] < scores[k - 1] - TIE)
            answers.append(Neighbours(image_ids, scores, complete))
        return answers


def _read_identity(store: Store, folder: str, file: str, rows: Int64) -> pa.Table:
    """image_id and content_sha256 of rows of one part, given by rising numbers within it."""
    columns = ["image_id", "content_sha256"]
    full = store.full_path(f"{folder}/{file}")
    with as_store_error("read", full), open_part(store, folder, file) as parquet:
        meta = parquet.metadata
        starts = np.cumsum([0, *(meta.row_group(number).num_rows for number in range(meta.num_row_groups))])
        bounds = np.searchsorted(rows, starts)
        return pa.concat_tables(
            parquet.read_row_group(number, columns, use_threads=False).take(pa.array(rows[a:b] - starts[number]))
            for number, (a, b) in enumerate(itertools.pairwise(bounds))
            if a < b
        )
