"""What an index's pictures were when they were embedded, so that no other picture is shown in their place."""

from __future__ import annotations

import functools
import threading

import pyarrow as pa
import pyarrow.compute as pc

from index_builder.search.rows import Rows
from store.errors import StoreError, UserError
from store.location import Store, as_store_error
from store.parts import open_part
from store.snapshot import read_manifest, snapshot_folder

_COLUMNS = ["image_id", "content_sha256"]


class PictureDigests:
    """The digest of each row's picture. Thread-safe; creating one does no I/O.

    A version built before its rows kept the digests has them in its snapshot: all of it are read on the first question,
    some 100 bytes of memory for each row, and none is known where the snapshot is gone.
    """

    def __init__(self, store: Store, snapshot: str, rows: Rows) -> None:
        self._rows = rows
        self._lock = threading.Lock()
        # Not of a bound method: that would make a cycle, and a dropped index would stay until the next collection.
        self._of_snapshot = functools.cache(functools.partial(_read_digests, store, snapshot))

    def of(self, row: int) -> str:
        """Hex, of the encoded bytes; "" where it is not known."""
        kept = self._rows.content_sha256(row)
        if kept:
            return kept
        with self._lock:
            table = self._of_snapshot()
        place = pc.index(table["image_id"], self._rows.image_id(row)).as_py()
        return "" if place < 0 else str(table["content_sha256"][place].as_py() or "")


def _read_digests(store: Store, snapshot: str) -> pa.Table:
    nothing = pa.table({name: pa.array([], pa.string()) for name in _COLUMNS})
    folder = snapshot_folder(snapshot)
    try:
        tables = [nothing]
        for part in read_manifest(store, snapshot).parts:
            full = store.full_path(f"{folder}/{part.path}")
            with as_store_error("read", full), open_part(store, folder, part.path) as parquet:
                tables.append(parquet.read(columns=_COLUMNS, use_threads=False).cast(nothing.schema))
    except (UserError, StoreError):
        return nothing
    return pa.concat_tables(tables)
