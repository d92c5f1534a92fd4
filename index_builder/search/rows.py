"""What a row number stands for: ids, where the picture is, attributes. Arrow files, memory-mapped, one per shard."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from store.errors import UserError

ROWS_FILE = "rows.arrow"
_ATTRIBUTE = "attribute."
_IDENTITY = ("image_id", "item_id", "image_uri")
_DIGEST = "content_sha256"
_DIGEST_TYPE = pa.binary(32)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CACHED_FILTERS = 32
# Fetched one by one: 1 to 3 microseconds each, where Arrow takes 7 to 15 for any few at once.
_FEW_CELLS = 8


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

    def to_dict(self) -> dict[str, Any]:
        """As commands and the server's API print it; the row number, which means something here only, is left out."""
        return {
            "score": round(self.score, 6),
            "item_id": self.item_id,
            "image_id": self.image_id,
            "image_uri": self.image_uri,
            "attributes": self.attributes,
        }


def row_table(rows: pa.Table) -> pa.Table:
    """The columns of a snapshot that an index keeps, a dictionary-encoded column for each attribute.

    Args:
        rows: image_id, item_id, image_uri, content_sha256, attributes: map<string, string>.
    """
    digests = _as_bytes(rows[_DIGEST]) if _DIGEST in rows.column_names else None
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
    if digests is not None:
        columns[_DIGEST] = digests
    return pa.table(columns)


def _as_bytes(hex_digests: pa.ChunkedArray) -> pa.Array:
    """fixed_size_binary[32], null for what is no SHA-256 in hex; a chunk at a time, as text takes thrice the memory."""
    pieces = [pa.array(map(_digest_bytes, chunk.to_pylist()), _DIGEST_TYPE) for chunk in hex_digests.chunks]
    return pa.concat_arrays(pieces) if pieces else pa.array([], _DIGEST_TYPE)


def _digest_bytes(text: str | None) -> bytes | None:
    return bytes.fromhex(text) if text and _SHA256.fullmatch(text) else None


def _lengths(attributes: pa.MapArray) -> pa.Array:
    offsets = attributes.offsets
    return pc.subtract(offsets.slice(1), offsets.slice(0, len(offsets) - 1))


def write_rows(path: Path, table: pa.Table) -> None:
    """Writes one shard's rows as one uncompressed record batch, to be memory-mapped."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=max(1, table.num_rows))


class _Shard:
    """One shard's columns, laid bare: a table hands out each in several microseconds. Attributes are dictionaries."""

    def __init__(self, table: pa.Table) -> None:
        columns = {name: _in_one_piece(table[name]) for name in table.column_names}
        self.rows = table.num_rows
        self.digests = columns.get(_DIGEST)
        self.identity = {name: columns[name] for name in _IDENTITY}
        self.attributes = {
            name.removeprefix(_ATTRIBUTE): column for name, column in columns.items() if name.startswith(_ATTRIBUTE)
        }


def _in_one_piece(column: pa.ChunkedArray) -> pa.Array:
    """The column as one array; copied only where it is in several pieces, which what `write_rows` wrote is not."""
    if column.num_chunks == 1:
        return column.chunk(0)
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
    return column.combine_chunks()


class Rows:
    """The rows of all shards, numbered through; what is not looked at stays on disk. Thread-safe."""

    def __init__(self, tables: Sequence[pa.Table]) -> None:
        self._shards = [_Shard(table) for table in tables]
        self._starts = [0, *np.cumsum([table.num_rows for table in tables]).tolist()]
        self.attribute_names = tuple(sorted({name for shard in self._shards for name in shard.attributes}))
        # Not of a bound method: that would make a cycle, and a dropped index would stay until the next collection.
        self._cached_mask = functools.lru_cache(maxsize=_CACHED_FILTERS)(functools.partial(_mask, self._shards))

    @classmethod
    def open(cls, folders: Sequence[Path]) -> Rows:
        """Memory-maps the rows of shards, in their order."""
        return cls([pa.ipc.open_file(pa.memory_map(str(folder / ROWS_FILE))).read_all() for folder in folders])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def image_id(self, row: int) -> str:
        """The id of a row's picture."""
        return self.image_ids(np.array([row]))[0]

    def item_id(self, row: int) -> str:
        """The id of what a row's picture shows."""
        return self.item_ids(np.array([row]))[0]

    def content_sha256(self, row: int) -> str:
        """Hex, of the encoded picture that was embedded; "" in a version built before rows kept it."""
        for shard, _, (local,) in self._by_shard(np.array([row])):
            digest = None if shard.digests is None else shard.digests[local].as_py()
            return "" if digest is None else digest.hex()
        return ""

    def image_ids(self, rows: npt.NDArray[np.int64]) -> list[str]:
        """The ids of m rows' pictures."""
        return self._ids("image_id", rows)

    def item_ids(self, rows: npt.NDArray[np.int64]) -> list[str]:
        """The ids of what m rows' pictures show."""
        return self._ids("item_id", rows)

    def _ids(self, column: str, rows: npt.NDArray[np.int64]) -> list[str]:
        found = [""] * len(rows)
        for shard, places, local in self._by_shard(rows):
            for place, value in zip(places, _values(shard.identity[column], local), strict=True):
                found[place] = value
        return found

    def _by_shard(self, rows: npt.NDArray[np.int64]) -> Iterator[tuple[_Shard, Sequence[int], list[int] | pa.Array]]:
        """Shards that hold any of the rows; places of those within `rows`, and their numbers within the shard."""
        if len(self._shards) == 1:
            yield self._shards[0], range(len(rows)), _to_look_up(rows)
            return
        owners = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(owners).tolist():
            places = np.flatnonzero(owners == number)
            yield self._shards[number], places.tolist(), _to_look_up(rows[places] - self._starts[number])

    def hit(self, row: int, score: float) -> Hit:
        """A row with its score, spelled out."""
        return self.hits(np.array([row]), np.array([score]))[0]

    def hits(self, rows: npt.NDArray[np.int64], scores: npt.NDArray[np.floating[Any]]) -> list[Hit]:
        """Rows with their scores, spelled out; all at once costs far less than one by one.

        Args:
            rows: int64[m] row numbers.
            scores: float32[m] cosines.
        """
        found: list[Hit | None] = [None] * len(rows)
        numbers, cosines = rows.tolist(), scores.tolist()
        for shard, places, local in self._by_shard(rows):
            identity = [_values(shard.identity[name], local) for name in _IDENTITY]
            attributes: list[dict[str, str]] = [{} for _ in places]
            for name, column in shard.attributes.items():
                for of_one, value in zip(attributes, _values(column, local), strict=True):
                    if value is not None:
                        of_one[name] = value
            for place, picture, item, uri, of_one in zip(places, *identity, attributes, strict=True):
                found[place] = Hit(picture, item, uri, cosines[place], of_one, numbers[place])
        return [hit for hit in found if hit is not None]

    def find(self, column: str, value: str) -> npt.NDArray[np.int64]:
        """Row numbers whose `image_id` or `item_id` is `value`, rising."""
        found = [
            start + np.flatnonzero(pc.equal(shard.identity[column], value).to_numpy(zero_copy_only=False))
            for start, shard in zip(self._starts, self._shards, strict=False)
        ]
        return np.concatenate(found).astype(np.int64)

    def attribute(self, name: str) -> list[str | None]:
        """One attribute of all rows, None where a row lacks it.

        Raises:
            UserError: No row has such an attribute.
        """
        self._check_attribute(name)
        values: list[str | None] = []
        for shard in self._shards:
            column = shard.attributes.get(name)
            values += [None] * shard.rows if column is None else column.dictionary_decode().to_pylist()
        return values

    def value_counts(self, name: str, limit: int) -> tuple[list[tuple[str, int]], int]:
        """The values of an attribute with the rows that have each, the most frequent first, and how many there are.

        Args:
            name: The attribute.
            limit: Values wanted at most; of equally frequent ones the alphabet's first.

        Returns:
            At most `limit` values with their rows, and the number of distinct values.

        Raises:
            UserError: No row has such an attribute.
        """
        self._check_attribute(name)
        parts = []
        for column in (shard.attributes[name] for shard in self._shards if name in shard.attributes):
            rows = np.bincount(column.indices.drop_null().to_numpy(), minlength=len(column.dictionary))
            parts.append(pa.table({"value": column.dictionary, "rows": rows}))
        counts = pa.concat_tables(parts).group_by("value").aggregate([("rows", "sum")])
        counts = counts.filter(pc.greater(counts["rows_sum"], 0))
        first = counts.sort_by([("rows_sum", "descending"), ("value", "ascending")]).slice(0, limit)
        return list(zip(first["value"].to_pylist(), first["rows_sum"].to_pylist(), strict=True)), counts.num_rows

    def matching(self, where: Mapping[str, str]) -> npt.NDArray[np.bool_]:
        """bool[n]: the rows whose attributes all have the given values; not to be written to.

        Raises:
            UserError: No row has such an attribute.
        """
        for name in where:
            self._check_attribute(name)
        return self._cached_mask(tuple(sorted(where.items())))

    def _check_attribute(self, name: str) -> None:
        if name not in self.attribute_names:
            known = ", ".join(self.attribute_names) or "none"
            raise UserError(f"expected an attribute of the catalog ({known}), found {name!r}")


def _to_look_up(rows: npt.NDArray[np.int64]) -> list[int] | pa.Array:
    return rows.tolist() if len(rows) < _FEW_CELLS else pa.array(rows)


def _values(column: pa.Array, rows: list[int] | pa.Array) -> list[Any]:
    if isinstance(rows, list):
        return [column[row].as_py() for row in rows]
    if isinstance(column, pa.DictionaryArray):
        column, rows = column.dictionary, pc.array_take(column.indices, rows)
    return pc.array_take(column, rows).to_pylist()


def _mask(shards: Sequence[_Shard], where: tuple[tuple[str, str], ...]) -> npt.NDArray[np.bool_]:
    mask = np.ones(sum(shard.rows for shard in shards), bool)
    for name, value in where:
        mask &= np.concatenate([_equals(shard, name, value) for shard in shards])
    mask.setflags(write=False)
    return mask


def _equals(shard: _Shard, name: str, value: str) -> npt.NDArray[np.bool_]:
    column = shard.attributes.get(name)
    code = -1 if column is None else pc.index(column.dictionary, value).as_py()
    if column is None or code < 0:
        return np.zeros(shard.rows, bool)
    return pc.fill_null(pc.equal(column.indices, code), False).to_numpy(zero_copy_only=False)
