"""ReadCatalog: a folder, a glob or tables become catalog rows."""

from __future__ import annotations

import dataclasses
import os
import posixpath
from collections.abc import Iterator

import apache_beam as beam
from apache_beam.io.filesystem import FileMetadata, MatchResult
from apache_beam.io.filesystems import FileSystems

from fetch.uris import WILDCARD, catalog_base, table_kind
from store.errors import UserError
from transforms.rows import CatalogRow, row_from_record
from transforms.tables import Span, check_table, plan_spans, read_span


@dataclasses.dataclass(frozen=True, slots=True)
class Catalog:
    """Where a catalog lies and how it is read.

    Attributes:
        uri: As the user gave it.
        pattern: What Beam's file systems match: the tables, or the pictures of a folder.
        base: Folder or URL prefix that relative image URIs start from.
        tables: True for tables, False for pictures in a folder.
    """

    uri: str
    pattern: str
    base: str
    tables: bool


def find_catalog(uri: str, pattern: str = "", base: str = "") -> Catalog:
    """Looks at a catalog before a run: does it exist, is it of a kind we read, has it any row.

    Args:
        uri: As the user gave it: a table, a folder, or a glob of either.
        pattern: Where the table is read from, when that is not `uri` itself (a copy of one behind http).
        base: Where relative image URIs start from, when that is not the folder of `uri`.

    Raises:
        UserError: It is missing, empty, or of another kind; the message says which.
    """
    path = pattern or uri.removeprefix("file://")
    if table_kind(path) is not None:
        return _find_tables(uri, path, base or catalog_base(path))
    root = catalog_base(path)
    if WILDCARD.search(path):
        pictures = path
    else:
        pictures = posixpath.join(root, "**")
        if _is_file(path):
            raise UserError(f"--catalog {uri}: expected a folder, a glob, .csv, .jsonl or .parquet, found another file")
    catalog = Catalog(uri, pictures, root, tables=False)
    if next(_list_pictures(catalog), None) is None:
        raise UserError(f"--catalog {uri}: expected pictures or a .csv, .jsonl or .parquet table, found none")
    return catalog


def _find_tables(uri: str, pattern: str, base: str) -> Catalog:
    tables = _match(uri, pattern).metadata_list
    if not tables:
        raise UserError(f"--catalog {uri}: no such file")
    for table in tables:
        check_table(table.path, str(table_kind(table.path)))
    if not any(_has_row(table.path) for table in tables):
        raise UserError(f"--catalog {uri}: the catalog is empty: it has no rows")
    if WILDCARD.search(base):
        raise UserError(f"--catalog {uri}: expected the tables of one folder, found a wildcard in the folder's name")
    return Catalog(uri, pattern, base, tables=True)


def _has_row(path: str) -> bool:
    spans = plan_spans(path, str(table_kind(path)))
    return any(next(read_span(span), None) is not None for span in spans)


def _match(uri: str, pattern: str) -> MatchResult:
    try:
        return FileSystems.match([pattern])[0]
    except ValueError as error:
        raise UserError(f"--catalog {uri}: {error}") from error


def _is_file(path: str) -> bool:
    if "://" not in path:
        return os.path.isfile(path)
    return any(found.path == path for found in _match(path, path).metadata_list)


def _list_pictures(catalog: Catalog) -> Iterator[FileMetadata]:
    for file in _match(catalog.uri, catalog.pattern).metadata_list:
        relative = posixpath.relpath(file.path, catalog.base) if "://" not in file.path else file.path
        if not any(part.startswith(".") for part in relative.split("/") if part not in {".", ".."}):
            yield file


def row_from_file(catalog: Catalog, file: FileMetadata) -> CatalogRow:
    """A picture in a folder as a row: item_id is its path without extension, its folder the category."""
    prefix = catalog.base.rstrip("/") + "/"
    relative = file.path.removeprefix(prefix)
    folder = posixpath.basename(posixpath.dirname(file.path))
    return row_from_record({"image_uri": relative, "category": folder}, position=relative)


class ReadCatalog(beam.PTransform):
    """Reads every row of a catalog.

    Tables are cut into spans by one worker and read by many; rows are never held together in memory.

    Output: PCollection[CatalogRow].
    """

    def __init__(self, catalog: Catalog) -> None:
        super().__init__()
        self._catalog = catalog

    def expand(self, pbegin: beam.pvalue.PBegin) -> beam.PCollection[CatalogRow]:
        """Composes the reading of tables or of a folder."""
        catalog = pbegin | "Catalog" >> beam.Create([self._catalog])
        if not self._catalog.tables:
            return catalog | "ListPictures" >> beam.FlatMap(_rows_of_folder).with_output_types(CatalogRow)
        return (
            catalog
            | "PlanSpans" >> beam.FlatMap(_spans_of_tables).with_output_types(Span)
            | "ShareSpans" >> beam.Reshuffle()
            | "ReadSpan" >> beam.FlatMap(read_span).with_output_types(CatalogRow)
        )


def _rows_of_folder(catalog: Catalog) -> Iterator[CatalogRow]:
    return (row_from_file(catalog, file) for file in _list_pictures(catalog))


def _spans_of_tables(catalog: Catalog) -> Iterator[Span]:
    for file in _match(catalog.uri, catalog.pattern).metadata_list:
        yield from plan_spans(file.path, str(table_kind(file.path)))
