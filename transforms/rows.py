"""A catalog row: what it holds and how it is made from a record of a table."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import posixpath
from collections.abc import Mapping
from typing import Any

import apache_beam as beam

from transforms.coding import DataclassCoder

RESERVED_COLUMNS = ("image_uri", "item_id", "image_id", "source_version")


@dataclasses.dataclass(frozen=True, slots=True)
class CatalogRow:
    """One picture of one item.

    Attributes:
        image_id: Unique in the catalog.
        item_id: The product; it may have many pictures.
        image_uri: As written in the catalog; a relative one is relative to the catalog.
        source_version: Changes when the picture does; empty where the catalog does not say.
        attributes: Every other column, as strings.
        position: Where the row stands, sortable: table and row number. The first of two equal image_ids is kept.
        fault: What is wrong with the row itself; empty for a good row.
    """

    image_id: str
    item_id: str
    image_uri: str
    source_version: str
    attributes: dict[str, str]
    position: str
    fault: str = ""


class CatalogRowCoder(DataclassCoder):
    """Attributes keep the order of the table's columns."""

    kind = CatalogRow


beam.coders.registry.register_coder(CatalogRow, CatalogRowCoder)


def default_image_id(item_id: str, image_uri: str) -> str:
    """First 20 hex digits of SHA-256 over item_id, a NUL byte and image_uri as written."""
    return hashlib.sha256(f"{item_id}\0{image_uri}".encode()).hexdigest()[:20]


def default_item_id(image_uri: str) -> str:
    """The picture's path without its extension."""
    return posixpath.splitext(image_uri)[0]


def row_from_record(record: Mapping[str, Any], position: str, fault: str = "") -> CatalogRow:
    """Turns a table's record into a row; what is wrong with it becomes its `fault`, never an exception.

    Args:
        record: Column to value; any JSON-like value is turned into a string, None and "" are absent.
        position: Sortable place in the catalog.
        fault: A fault already known to the reader.
    """
    texts = {}
    for name, value in record.items():
        text = _to_text(value)
        if text:
            texts[name], clean = _replace_broken(text)
            if not clean:
                fault = fault or f"{position}: column {name} is not valid UTF-8"
    image_uri = texts.get("image_uri", "").strip()
    if not image_uri:
        fault = fault or f"{position}: image_uri is empty"
    item_id = texts.get("item_id") or default_item_id(image_uri)
    return CatalogRow(
        image_id=texts.get("image_id") or default_image_id(item_id, image_uri),
        item_id=item_id,
        image_uri=image_uri,
        source_version=texts.get("source_version", ""),
        attributes={name: text for name, text in texts.items() if name not in RESERVED_COLUMNS},
        position=position,
        fault=fault,
    )


def _to_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, (dict, list, bool)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def _replace_broken(text: str) -> tuple[str, bool]:
    """Bytes that were no UTF-8 arrive as lone surrogates, which no Parquet file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode(), False
    return text, True
