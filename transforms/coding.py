"""How elements cross a shuffle: frozen dataclasses as compact JSON arrays of their fields."""

from __future__ import annotations

import dataclasses
import functools
import json
import types
import typing
from typing import Any, ClassVar

import apache_beam as beam


class DataclassCoder(beam.coders.Coder):
    """The same bytes for the same element, a third of a pickle's. Fields may be dataclasses themselves, or None.

    A subclass says of what in `kind`; mappings keep the order of their keys.
    """

    kind: ClassVar[type]

    def encode(self, value: Any) -> bytes:
        """One element as UTF-8 JSON."""
        return json.dumps(_to_list(value), ensure_ascii=False, separators=(",", ":")).encode()

    def decode(self, encoded: bytes) -> Any:
        """The element that `encode` was given."""
        return _from_list(self.kind, json.loads(encoded))

    def is_deterministic(self) -> bool:
        """Equal elements have equal bytes."""
        return True

    def to_type_hint(self) -> type:
        """The type this coder is for."""
        return self.kind


def _to_list(value: Any) -> list[Any]:
    kind: type = type(value)
    fields = [getattr(value, field.name) for field in dataclasses.fields(kind)]
    for place in _nested(kind):
        if fields[place] is not None:
            fields[place] = _to_list(fields[place])
    return fields


def _from_list(kind: type, fields: list[Any]) -> Any:
    for place, inner in _nested(kind).items():
        if fields[place] is not None:
            fields[place] = _from_list(inner, fields[place])
    return kind(*fields)


@functools.cache
def _nested(kind: type) -> dict[int, type]:
    """Place and type of the fields that are dataclasses, or a dataclass or None."""
    hints = typing.get_type_hints(kind)
    found = {}
    for place, field in enumerate(dataclasses.fields(kind)):
        hint = hints[field.name]
        choices = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
        inner = [choice for choice in choices if isinstance(choice, type) and dataclasses.is_dataclass(choice)]
        if inner:
            found[place] = inner[0]
    return found
