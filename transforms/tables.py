"""Reading CSV, JSONL and Parquet tables in spans, so that a large table is shared among workers."""

from __future__ import annotations

import csv
import dataclasses
import json
import posixpath
import re
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from store.errors import UserError
from transforms.rows import CatalogRow, row_from_record

SPAN_BYTES = 64 << 20
"""A worker reads this much of a text table at a time; smaller spans share a table among more workers."""

MAX_FIELD_BYTES = 1 << 20

_COLUMN_NAME = re.compile(r"[\w .-]{1,40}")


@dataclasses.dataclass(frozen=True, slots=True)
class Span:
    """A piece of a table that one worker reads.

    Attributes:
        path: The table.
        kind: csv, jsonl or parquet.
        start: First byte (text) or first row group (Parquet).
        stop: One past the last, or None for all that is left.
        first_row: Number of the span's first row in the table, from 0.
        columns: A CSV's header.
    """

    path: str
    kind: str
    start: int
    stop: int | None
    first_row: int
    columns: tuple[str, ...] = ()


def plan_spans(path: str, kind: str, span_bytes: int = SPAN_BYTES) -> Iterator[Span]:
    """Cuts a table where rows begin, quoted line breaks included; a table under `span_bytes` is one span.

    Reads a large text table through once, a line at a time; a Parquet table only by its footer.

    Raises:
        UserError: The table has no image_uri column, is not UTF-8 or is not what its name says.
    """
    check_table(path, kind)
    if kind == "parquet":
        yield from _plan_parquet(path)
        return
    columns = _read_header(path) if kind == "csv" else ()
    if _is_compressed(path) or FileSystems.match([path])[0].metadata_list[0].size_in_bytes <= span_bytes:
        yield Span(path, kind, 0, None, 0, columns)
        return
    start, first_row, row = 0, 0, 0
    for row, end in enumerate(_row_ends(path, kind), start=1):
        if end - start >= span_bytes:
            yield Span(path, kind, start, end, first_row, columns)
            start, first_row = end, row
    yield Span(path, kind, start, None, first_row, columns)


def check_table(path: str, kind: str) -> None:
    """Looks at the beginning of a table.

    Raises:
        UserError: As `plan_spans`; the message says what was found.
    """
    if kind == "jsonl":
        with FileSystems.open(path, mime_type="text/plain") as file:
            _check_encoding(path, file.read(4))
        return
    columns = _read_header(path) if kind == "csv" else tuple(_parquet_columns(path))
    if "image_uri" not in columns:
        found = ", ".join(_plain_names(columns)) or "none"
        raise UserError(f"catalog {path}: expected a column named image_uri, found {found}")
    doubled = sorted({name for name in columns if columns.count(name) > 1})
    if doubled:
        found = ", ".join(_plain_names(doubled))
        raise UserError(f"catalog {path}: expected every column once, found {found} more than once")


def _plain_names(columns: Sequence[str]) -> list[str]:
    """Names of columns, as far as they look like such: the first line of any other file is not quoted."""
    return [name if _COLUMN_NAME.fullmatch(name) else "another" for name in columns[:40]]


def read_span(span: Span) -> Iterator[CatalogRow]:
    """The rows of one span, in order, one at a time."""
    read = {"csv": _read_csv, "jsonl": _read_jsonl, "parquet": _read_parquet}[span.kind]
    name = posixpath.basename(span.path)
    for index, (record, fault) in enumerate(read(span), start=span.first_row):
        position = f"{name} row {index + 1:010d}"
        yield row_from_record(record, position, f"{position}: {fault}" if fault else "")


def _plan_parquet(path: str) -> Iterator[Span]:
    first_row = 0
    with _open_parquet(path) as table:
        for group in range(table.num_row_groups):
            yield Span(path, "parquet", group, group + 1, first_row)
            first_row += table.metadata.row_group(group).num_rows


def _is_compressed(path: str) -> bool:
    return CompressionTypes.detect_compression_type(path) != CompressionTypes.UNCOMPRESSED


def _check_encoding(path: str, head: bytes) -> None:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in head:
        raise UserError(f"catalog {path}: expected UTF-8, found UTF-16 or binary data; save it as UTF-8")


def _open_parquet(path: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(FileSystems.open(path))
    except pa.ArrowInvalid as error:
        raise UserError(f"catalog {path}: expected a Parquet file, found something else") from error


def _parquet_columns(path: str) -> list[str]:
    with _open_parquet(path) as table:
        return list(table.schema_arrow.names)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    return iter(file.readline, b"")


def _text(lines: Iterator[bytes]) -> Iterator[str]:
    # Bytes that are no UTF-8 become lone surrogates: row_from_record names the column they are in.
    return (line.decode("utf-8", "surrogateescape") for line in lines)


def _csv_reader(lines: Iterator[bytes]) -> Iterator[list[str]]:
    csv.field_size_limit(MAX_FIELD_BYTES)
    return csv.reader(_text(lines))


def _skip_mark(file: BinaryIO) -> None:
    if file.read(3) != b"\xef\xbb\xbf":
        file.seek(0)


def _read_header(path: str) -> tuple[str, ...]:
    with FileSystems.open(path, mime_type="text/plain") as file:
        _check_encoding(path, file.read(4))
        file.seek(0)
        _skip_mark(file)
        try:
            header = next(_csv_reader(_lines(file)), [])
        except csv.Error as error:
            raise UserError(f"catalog {path}: expected a CSV header, found something else ({error})") from error
    if any("\udc80" <= letter <= "\udcff" for name in header for letter in name):
        raise UserError(f"catalog {path}: expected UTF-8, found a header in another encoding; save it as UTF-8")
    return tuple(name.strip() for name in header)


class _CountedLines:
    """Lines of a file, and how many bytes of it they took."""

    def __init__(self, file: BinaryIO, position: int, stop: int | None) -> None:
        self._file = file
        self.position = position
        self._stop = stop

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._stop is not None and self.position >= self._stop:
            raise StopIteration
        line = self._file.readline()
        if not line:
            raise StopIteration
        self.position += len(line)
        return line


def _row_ends(path: str, kind: str) -> Iterator[int]:
    """Byte offsets at which rows end; a CSV's header belongs to its first row."""
    with FileSystems.open(path, mime_type="text/plain") as file:
        lines = _CountedLines(file, 0, None)
        if kind == "jsonl":
            yield from (lines.position for _ in lines)
            return
        rows = _csv_reader(lines)
        next(rows, None)
        yield from (lines.position for row in rows if row)


def _read_csv(span: Span) -> Iterator[tuple[dict[str, Any], str]]:
    with FileSystems.open(span.path, mime_type="text/plain") as file:
        file.seek(span.start)
        if span.start == 0:
            _skip_mark(file)
        rows = _csv_reader(_CountedLines(file, file.tell(), span.stop))
        if span.start == 0:
            next(rows, None)
        width = len(span.columns)
        while True:
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield {}, f"not CSV: {error}"
                continue
            if row:
                fault = "" if len(row) == width else f"expected {width} fields, found {len(row)}"
                yield dict(zip(span.columns, row, strict=False)), fault


def _read_jsonl(span: Span) -> Iterator[tuple[dict[str, Any], str]]:
    with FileSystems.open(span.path, mime_type="text/plain") as file:
        file.seek(span.start)
        for line in _CountedLines(file, span.start, span.stop):
            text = line.decode("utf-8-sig", "surrogateescape").strip()
            if not text:
                continue
            try:
                record = json.loads(text)
            except (ValueError, RecursionError):
                record = None
            if isinstance(record, dict):
                yield record, ""
            else:
                yield {}, "expected a JSON object"


def _read_parquet(span: Span) -> Iterator[tuple[dict[str, Any], str]]:
    with _open_parquet(span.path) as table:
        groups = list(range(span.start, cast(int, span.stop)))
        for batch in table.iter_batches(batch_size=4096, row_groups=groups):
            for record in batch.to_pylist():
                yield record, ""
