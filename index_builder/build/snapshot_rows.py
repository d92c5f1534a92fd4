"""Reading a snapshot as an index needs it: through its manifest, in batches, refusing what must not be indexed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from store.damage import setting_aside, whole_snapshots
from store.errors import StoreError, UserError
from store.location import Store, as_store_error
from store.parts import open_part
from store.schema import FINGERPRINT_KEY
from store.snapshot import SnapshotManifest, read_manifest, snapshot_folder

Float32 = npt.NDArray[np.float32]

BATCH_ROWS = 2_048
_COLUMNS = ["image_id", "item_id", "image_uri", "content_sha256", "attributes", "embedding"]
_NORM_TOLERANCE = 1e-2
_READERS = 2
_LEAST_GROUPS = 16


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """Rows that lie side by side in a snapshot.

    Attributes:
        start: Number of the first row, counted through the snapshot's parts.
        rows: image_id, item_id, image_uri, content_sha256, attributes.
        embeddings: float32[n, D], finite, L2-normalised.
    """

    start: int
    rows: pa.Table
    embeddings: Float32


@dataclasses.dataclass(frozen=True, slots=True)
class _RowGroup:
    path: str
    number: int
    start: int
    rows: int


class SnapshotRows:
    """The embedded rows of one snapshot, in the order of its manifest."""

    def __init__(self, store: Store, manifest: SnapshotManifest) -> None:
        self._store = store
        self._folder = snapshot_folder(manifest.snapshot)
        self.manifest = manifest
        self.embedding_dim = int(manifest.encoder["embedding_dim"])
        self._groups = self._list_row_groups()
        self.rows = sum(group.rows for group in self._groups)
        expected = manifest.counts.embedded + manifest.counts.reused
        if self.rows != expected:
            raise StoreError(f"snapshot {manifest.snapshot}: expected {expected} embedded rows, found {self.rows}")
        if not self.rows:
            raise UserError(f"snapshot {manifest.snapshot} is empty: no picture was embedded; embed a catalog first")

    @classmethod
    def open(
        cls, store: Store, snapshot: str | None = None, say: Callable[[str], object] = lambda _: None
    ) -> SnapshotRows:
        """Opens the named snapshot, or the newest whose files are all there.

        Args:
            store: Holds it.
            snapshot: Its name; None for the newest.
            say: Told of newer snapshots that are damaged, and set aside.

        Raises:
            UserError: There is none, or it is empty.
            StoreError: A part is missing, or of another encoder or dimension.
        """
        if snapshot is not None:
            return cls(store, read_manifest(store, snapshot))
        newest = next(whole_snapshots(store, setting_aside(store, say)), None)
        if newest is None:
            raise UserError(f"no snapshot in {store.uri}; make one with shelfmark embed --store {store.uri}")
        return cls(store, newest)

    def _list_row_groups(self) -> list[_RowGroup]:
        groups: list[_RowGroup] = []
        start = 0
        for file in self.manifest.parts:
            with open_part(self._store, self._folder, file.path) as parquet:
                self._check_part(file.path, parquet.schema_arrow)
                for number in range(parquet.metadata.num_row_groups):
                    rows = parquet.metadata.row_group(number).num_rows
                    groups.append(_RowGroup(file.path, number, start, rows))
                    start += rows
        return groups

    def _full_path(self, path: str) -> str:
        return self._store.full_path(f"{self._folder}/{path}")

    def _check_part(self, path: str, schema: pa.Schema) -> None:
        expected = str(self.manifest.encoder["fingerprint"])
        found = (schema.metadata or {}).get(FINGERPRINT_KEY, b"").decode()
        if found != expected:
            raise StoreError(
                f"{self._full_path(path)}: expected embeddings of encoder {expected[:12]}, found "
                f"{found[:12] or 'none named'}; embeddings of two encoders are never mixed; embed the catalog again"
            )
        dimension = schema.field("embedding").type.list_size
        if dimension != self.embedding_dim:
            raise StoreError(f"{self._full_path(path)}: expected {self.embedding_dim} dimensions, found {dimension}")

    def batches(self, start: int = 0, stop: int | None = None, *, ids: bool = True) -> Iterator[Batch]:
        """Rows start to stop, at most 2,048 at a time; `ids` False leaves out all columns but the embedding.

        Raises:
            StoreError: A part cannot be read, or an embedding is not finite or not normalised.
        """
        return _read_ahead(self._read(start, self.rows if stop is None else stop, ids))

    def _read(self, start: int, stop: int, ids: bool) -> Iterator[Batch]:
        path, parquet = "", None
        for group in self._groups:
            if group.start + group.rows <= start or group.start >= stop:
                continue
            if group.path != path:
                path, parquet = group.path, open_part(self._store, self._folder, group.path)
            assert parquet is not None
            yield from self._read_group(parquet, group, start, stop, _COLUMNS if ids else ["embedding"])

    def _read_group(
        self, parquet: pq.ParquetFile, group: _RowGroup, start: int, stop: int, columns: list[str]
    ) -> Iterator[Batch]:
        at = group.start
        with as_store_error("read", self._full_path(group.path)):
            for part in parquet.iter_batches(BATCH_ROWS, row_groups=[group.number], columns=columns, use_threads=False):
                first, last = max(start - at, 0), min(stop - at, part.num_rows)
                if first < last:
                    table = pa.Table.from_batches([part.slice(first, last - first)])
                    embeddings = self._embeddings(table["embedding"], group.path)
                    yield Batch(at + first, table.drop_columns(["embedding"]), embeddings)
                at += part.num_rows

    def _embeddings(self, column: pa.ChunkedArray, path: str) -> Float32:
        flat = column.combine_chunks().flatten()
        vectors: Float32 = flat.to_numpy().reshape(-1, self.embedding_dim)
        norms = np.einsum("ij,ij->i", vectors, vectors)
        if not np.isfinite(norms).all():
            raise StoreError(f"{self._full_path(path)}: expected finite embeddings, found NaN or infinity")
        if np.abs(norms - 1).max() > _NORM_TOLERANCE:
            wrong = float(norms[np.abs(norms - 1).argmax()]) ** 0.5
            raise StoreError(f"{self._full_path(path)}: expected embeddings of length 1, found {wrong:.3g}")
        return vectors

    def sample(self, count: int, seed: int) -> tuple[npt.NDArray[np.int64], Float32]:
        """Random rows, read from row groups spread over the snapshot: as few as hold twice the rows, but 16.

        Returns:
            int64[m] row numbers, rising, and float32[m, D] embeddings, m = min(count, rows).
        """
        chosen = self._spread_groups(count)
        numbers = np.concatenate([np.arange(group.start, group.start + group.rows) for group in chosen])
        generator = np.random.default_rng(seed)
        numbers = np.sort(generator.choice(numbers, min(count, len(numbers)), replace=False))
        return numbers, self.vectors(numbers)

    def _spread_groups(self, count: int) -> list[_RowGroup]:
        if self.rows <= count:
            return self._groups
        wanted = max(_LEAST_GROUPS, math.ceil(2 * count * len(self._groups) / self.rows))
        order = np.linspace(0, len(self._groups) - 1, min(wanted, len(self._groups))).round().astype(int)
        chosen = [self._groups[number] for number in dict.fromkeys(order.tolist())]
        return chosen if sum(group.rows for group in chosen) >= count else self._groups

    def vectors(self, numbers: npt.NDArray[np.int64]) -> Float32:
        """float32[m, D]: the embeddings of rows, given by rising numbers; reads only their row groups."""
        vectors = np.empty((len(numbers), self.embedding_dim), np.float32)

        def read(group: _RowGroup) -> None:
            first, last = np.searchsorted(numbers, [group.start, group.start + group.rows])
            if first == last:
                return
            for batch in self.batches(int(numbers[first]), int(numbers[last - 1]) + 1, ids=False):
                a, b = np.searchsorted(numbers, [batch.start, batch.start + len(batch.embeddings)])
                vectors[a:b] = batch.embeddings[numbers[a:b] - batch.start]

        with ThreadPoolExecutor(_READERS) as pool:
            for _ in pool.map(read, self._groups):
                pass
        return vectors


def _read_ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches, each read while the one before is worked on."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = pool.submit(next, batches, None)
            yield batch
