"""Writing the Parquet files of a snapshot, a row group at a time."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from store.errors import DamagedError
from store.location import Store, as_store_error

ROW_GROUP_ROWS = 2048
"""Rows per row group: 16 MiB of 2,048-d float32 held in memory per open file, and the least a reader must read."""

_DICTIONARY_COLUMNS = ["attributes.key_value.key", "attributes.key_value.value"]


@dataclasses.dataclass(frozen=True, slots=True)
class PartFile:
    """A finished file: what a manifest lists.

    Attributes:
        path: Relative to the snapshot's folder.
        rows: Number of rows in it.
        bytes: Its size on disk.
    """

    path: str
    rows: int
    bytes: int


def open_part(store: Store, path: str) -> pq.ParquetFile:
    """Opens a Parquet file that a manifest lists; what was damaged since it was written is an error when it is read.

    Raises:
        DamagedError: It is missing or no Parquet.
        StoreError: It cannot be read.
    """
    try:
        return pq.ParquetFile(store.open(path), pre_buffer=False, page_checksum_verification=True)
    except FileNotFoundError as error:
        raise DamagedError(f"{store.full_path(path)}: listed in the snapshot's manifest, found none") from error
    except pa.ArrowInvalid as error:
        raise DamagedError(f"{store.full_path(path)}: expected Parquet: {error}") from error


class PartWriter:
    """Collects rows and writes them as row groups to one Parquet file; no rows, no file.

    Columns arrive as Python values, except `embedding`: float32[D] arrays, which stay numpy until they are an Arrow
    FixedSizeList. Byte-stream split puts the exponent bytes of neighbouring floats side by side, where zstd finds them.

    Not thread-safe.
    """

    def __init__(self, store: Store, folder: str, name: str, schema: pa.Schema) -> None:
        self._store = store
        self._folder = folder
        self._name = name
        self._schema = schema
        self._columns: dict[str, list[Any]] = {field: [] for field in schema.names}
        self._tables: list[pa.Table] = []
        self._rows = 0
        self._open_file = contextlib.ExitStack()
        self._parquet: pq.ParquetWriter | None = None

    def add(self, row: dict[str, Any]) -> None:
        """Adds one row, a value for every column of the schema.

        Raises:
            StoreError: A full row group could not be written.
        """
        for name, values in self._columns.items():
            values.append(row[name])
        if len(self._columns["image_id"]) >= ROW_GROUP_ROWS:
            self._write(self._take_rows())

    def add_table(self, table: pa.Table) -> None:
        """Adds rows that are an Arrow table of the schema already; a writer takes either rows or tables.

        Raises:
            StoreError: A full row group could not be written.
        """
        self._tables.append(table)
        if sum(table.num_rows for table in self._tables) >= ROW_GROUP_ROWS:
            whole = self._take_tables()
            full = whole.num_rows - whole.num_rows % ROW_GROUP_ROWS
            self._write(whole.slice(0, full))
            self._tables = [whole.slice(full)] if full < whole.num_rows else []

    def _take_rows(self) -> pa.Table:
        arrays = [self._to_array(field, self._columns[field.name]) for field in self._schema]
        for values in self._columns.values():
            values.clear()
        return pa.Table.from_arrays(arrays, schema=self._schema)

    def _take_tables(self) -> pa.Table:
        whole = pa.concat_tables(self._tables)
        self._tables = []
        return whole

    def _write(self, table: pa.Table) -> None:
        with self._explained():
            if self._parquet is None:
                self._parquet = self._open()
            self._parquet.write_table(table, row_group_size=ROW_GROUP_ROWS)
        self._rows += table.num_rows

    def _explained(self) -> contextlib.AbstractContextManager[None]:
        return as_store_error("write", self._store.full_path(f"{self._folder}/{self._name}"))

    def _to_array(self, field: pa.Field, values: list[Any]) -> pa.Array:
        if not pa.types.is_fixed_size_list(field.type):
            return pa.array(values, type=field.type)
        flat = np.concatenate(values)
        return pa.FixedSizeListArray.from_arrays(pa.array(flat, type=pa.float32()), type=field.type)

    def _open(self) -> pq.ParquetWriter:
        sink = self._open_file.enter_context(self._store.create(f"{self._folder}/{self._name}"))
        vectors = "embedding" in self._schema.names
        return self._open_file.enter_context(
            pq.ParquetWriter(
                sink,
                self._schema,
                compression="zstd",
                use_dictionary=_DICTIONARY_COLUMNS if vectors else ["stage", "reason"],
                use_byte_stream_split=["embedding.list.element"] if vectors else False,
                write_page_checksum=True,
            )
        )

    def close(self) -> PartFile | None:
        """Writes what is left and finishes the file.

        Returns:
            The finished file, or None when no row was ever added.

        Raises:
            StoreError: The file could not be written.
        """
        if self._columns["image_id"]:
            self._write(self._take_rows())
        if self._tables:
            self._write(self._take_tables())
        if self._parquet is None:
            return None
        with self._explained():
            self._open_file.close()
        size = self._store.size_bytes(f"{self._folder}/{self._name}")
        return PartFile(self._name, self._rows, size or 0)

    def abandon(self) -> None:
        """Lets go of an unfinished file; what was written stays unlisted and is never read."""
        with contextlib.suppress(Exception):
            self._open_file.close()
