"""Objects inside a JSON document as frozen dataclasses: what is absent stays absent, and what is unknown is kept."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

_E = TypeVar("_E", bound="Entry")


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """An object of a JSON document; subclasses name its fields in the document's order.

    A field with None for a default may be absent: then it is None, and is not written.

    Attributes:
        extra: Fields that the subclass does not know, as a later release may add; written after those that it does.
    """

    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict, kw_only=True)

    def to_dict(self) -> dict[str, Any]:
        """The object as `json` writes and reads it."""
        known = {
            field.name: _plain(getattr(self, field.name))
            for field in _known(type(self))
            if not (field.default is None and getattr(self, field.name) is None)
        }
        return {**known, **self.extra}

    @classmethod
    def from_dict(cls: type[_E], found: Any) -> _E:
        """Reads what `to_dict` wrote.

        Raises:
            KeyError: A field is missing.
            TypeError: It is no object, or a field is of another type.
        """
        if not isinstance(found, dict):
            raise TypeError(f"expected a JSON object, found {found!r:.60}")
        hints = _hints(cls)  # type: ignore[arg-type]  # a class can be hashed, whatever its instances can
        read: dict[str, Any] = {}
        for field in _known(cls):
            if field.name in found or field.default is dataclasses.MISSING:
                read[field.name] = _read(hints[field.name], found[field.name], field.name)
        return cls(**read, extra={name: value for name, value in found.items() if name not in hints})


def _known(kind: type[Entry]) -> list[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(kind) if field.name != "extra"]


@functools.cache
def _hints(kind: type[Entry]) -> dict[str, Any]:
    return {name: hint for name, hint in typing.get_type_hints(kind).items() if name != "extra"}


def _plain(value: Any) -> Any:
    if isinstance(value, Entry):
        return value.to_dict()
    return [_plain(one) for one in value] if isinstance(value, tuple) else value


def _read(hint: Any, value: Any, name: str) -> Any:
    """A field's value as its type wants it: numbers, texts, `X | None`, Literal, Mapping, and tuples of entries."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        (wanted,) = [one for one in arguments if one is not types.NoneType]
        return None if value is None else _read(wanted, value, name)
    if origin is tuple and isinstance(value, list):
        return tuple(_read(arguments[0], one, name) for one in value)
    if isinstance(hint, type) and issubclass(hint, Entry):
        return hint.from_dict(value)
    if origin is typing.Literal:
        fits = value in arguments
    elif hint in (int, float):
        fits = isinstance(value, int if hint is int else int | float) and not isinstance(value, bool)
    else:
        fits = isinstance(value, origin or hint)
    if not fits:
        raise TypeError(f"{name}: expected {getattr(hint, '__name__', hint)}, found {value!r:.60}")
    return value
