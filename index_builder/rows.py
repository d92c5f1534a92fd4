"""What a row number stands for: ids, where the picture is, attributes. Arrow files, memory-mapped, one per shard."""

from __future__ import annotations

import bisect
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from store.errors import UserError

ROWS_FILE = "rows.arrow"
_ATTRIBUTE = "attribute."
_IDENTITY = ("image_id", "item_id", "image_uri")
_CACHED_FILTERS = 32


@dataclasses.dataclass(frozen=True, slots=True)
class Hit:
    """One answer.

    Attributes:
        image_id: The picture.
        item_id: What it shows.
        image_uri: Where it is, as the catalog has it.
        score: Cosine with the query.
        attributes: The catalog's other columns.
        row: Row number in this version of the index.
    """

    image_id: str
    item_id: str
    image_uri: str
    score: float
    attributes: dict[str, str]
    row: int


def row_table(rows: pa.Table) -> pa.Table:
    """The columns of a snapshot that an index keeps, a dictionary-encoded column for each attribute.

    Args:
        rows: image_id, item_id, image_uri, attributes: map<string, string>.
    """
    rows = rows.combine_chunks()
    columns = {name: rows[name].combine_chunks() for name in _IDENTITY}
    attributes = rows["attributes"].combine_chunks()
    if isinstance(attributes, pa.ChunkedArray):
        attributes = pa.concat_arrays(attributes.chunks) if attributes.num_chunks else pa.array([], attributes.type)
    owner = np.repeat(np.arange(len(attributes)), pc.fill_null(_lengths(attributes), 0).to_numpy(zero_copy_only=False))
    offsets = attributes.offsets.to_numpy()
    keys, items = (part.slice(offsets[0], offsets[-1] - offsets[0]) for part in (attributes.keys, attributes.items))
    for name in sorted(key for key in pc.unique(keys).to_pylist() if key is not None):
        here = np.flatnonzero(pc.equal(keys, name).to_numpy(zero_copy_only=False))
        taken = np.full(len(attributes), -1, np.int64)
        taken[owner[here]] = here
        indices = pa.array(taken, mask=taken < 0)
        columns[_ATTRIBUTE + name] = items.take(indices).dictionary_encode()
    return pa.table(columns)


def _lengths(attributes: pa.MapArray) -> pa.Array:
    offsets = attributes.offsets
    return pc.subtract(offsets.slice(1), offsets.slice(0, len(offsets) - 1))


def write_rows(path: Path, table: pa.Table) -> None:
    """Writes one shard's rows as one uncompressed record batch, to be memory-mapped."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=max(1, table.num_rows))


class Rows:
    """The rows of all shards, numbered through; what is not looked at stays on disk. Thread-safe."""

    def __init__(self, tables: Sequence[pa.Table]) -> None:
        self._tables = list(tables)
        self._starts = [0, *np.cumsum([table.num_rows for table in tables]).tolist()]
        names = {name for table in tables for name in table.column_names if name.startswith(_ATTRIBUTE)}
        self.attribute_names = tuple(sorted(name.removeprefix(_ATTRIBUTE) for name in names))
        self._cached_mask = functools.lru_cache(maxsize=_CACHED_FILTERS)(self._mask)

    @classmethod
    def open(cls, folders: Sequence[Path]) -> Rows:
        """Memory-maps the rows of shards, in their order."""
        return cls([pa.ipc.open_file(pa.memory_map(str(folder / ROWS_FILE))).read_all() for folder in folders])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def _locate(self, row: int) -> tuple[pa.Table, int]:
        shard = bisect.bisect_right(self._starts, row) - 1
        return self._tables[shard], row - self._starts[shard]

    def image_id(self, row: int) -> str:
        """The id of a row's picture."""
        return self._cell("image_id", row)

    def item_id(self, row: int) -> str:
        """The id of what a row's picture shows."""
        return self._cell("item_id", row)

    def _cell(self, name: str, row: int) -> str:
        table, local = self._locate(int(row))
        return str(table[name][local])

    def hit(self, row: int, score: float) -> Hit:
        """A row with its score, spelled out."""
        table, local = self._locate(int(row))
        values = {name: column[local].as_py() for name, column in zip(table.column_names, table.columns, strict=True)}
        attributes = {
            name.removeprefix(_ATTRIBUTE): value
            for name, value in values.items()
            if name.startswith(_ATTRIBUTE) and value is not None
        }
        return Hit(values["image_id"], values["item_id"], values["image_uri"], float(score), attributes, int(row))

    def find(self, column: str, value: str) -> npt.NDArray[np.int64]:
        """Row numbers whose `image_id` or `item_id` is `value`, rising."""
        found = [
            start + np.flatnonzero(pc.equal(table[column], value).to_numpy())
            for start, table in zip(self._starts, self._tables, strict=False)
        ]
        return np.concatenate(found).astype(np.int64)

    def attribute(self, name: str) -> list[str | None]:
        """One attribute of all rows, None where a row lacks it.

        Raises:
            UserError: No row has such an attribute.
        """
        self._check_attribute(name)
        values: list[str | None] = []
        for table in self._tables:
            column = _ATTRIBUTE + name
            values += table[column].to_pylist() if column in table.column_names else [None] * table.num_rows
        return values

    def matching(self, where: Mapping[str, str]) -> npt.NDArray[np.bool_]:
        """bool[n]: the rows whose attributes all have the given values; not to be written to.

        Raises:
            UserError: No row has such an attribute.
        """
        for name in where:
            self._check_attribute(name)
        return self._cached_mask(tuple(sorted(where.items())))

    def _mask(self, where: tuple[tuple[str, str], ...]) -> npt.NDArray[np.bool_]:
        mask = np.ones(len(self), bool)
        for name, value in where:
            for start, table in zip(self._starts, self._tables, strict=False):
                mask[start : start + table.num_rows] &= _equals(table, _ATTRIBUTE + name, value)
        mask.setflags(write=False)
        return mask

    def _check_attribute(self, name: str) -> None:
        if name not in self.attribute_names:
            known = ", ".join(self.attribute_names) or "none"
            raise UserError(f"expected an attribute of the catalog ({known}), found {name!r}")


def _equals(table: pa.Table, column: str, value: str) -> npt.NDArray[np.bool_]:
    if column not in table.column_names:
        return np.zeros(table.num_rows, bool)
    parts = [np.zeros(0, bool)]
    for chunk in table[column].chunks:
        code = chunk.dictionary.to_pylist().index(value) if value in chunk.dictionary.to_pylist() else -2
        parts.append(pc.fill_null(chunk.indices, -1).to_numpy(zero_copy_only=False) == code)
    return np.concatenate(parts)
