"""A function of a request becomes a function of the request's fields: names, types and defaults are the dataclass's."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

Fields = ParamSpec("Fields")
Request = TypeVar("Request")
Result = TypeVar("Result")


def of_fields(request: Callable[Fields, Request], act: Callable[[Request], Result]) -> Callable[Fields, Result]:
    """Makes `act(request(...))` callable with what `request` takes.

    Args:
        request: A dataclass.
        act: Takes one, and has the docstring.
    """

    @functools.wraps(act)
    def with_fields(*args: Fields.args, **kwargs: Fields.kwargs) -> Result:
        return act(request(*args, **kwargs))

    returned = inspect.signature(act).return_annotation
    with_fields.__signature__ = inspect.signature(request).replace(  # type: ignore[attr-defined]
        return_annotation=returned
    )
    with_fields.__doc__ = _docstring(request, act)
    return with_fields


def _docstring(request: Any, act: Callable[..., object]) -> str:
    """What `act` does and raises, and between them every field, those that the request inherits included."""
    said = [part for part in str(inspect.getdoc(act)).split("\n\n") if not part.startswith("Args:")]
    fields = [
        line
        for kind in request.__mro__
        if dataclasses.is_dataclass(kind)
        for part in str(inspect.getdoc(kind)).split("\n\n")
        if part.startswith("Attributes:")
        for line in part.splitlines()[1:]
    ]
    takes = f"Takes the fields of {request.__name__}:\n" + "\n".join(fields)
    return "\n\n".join([said[0], takes, *said[1:]])
