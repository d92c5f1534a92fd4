"""A function of a request becomes a function of the request's fields: names, types and defaults are the dataclass's."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

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
    fields = f"Takes the fields of {request.__name__}:\n\n{inspect.getdoc(request)}"
    with_fields.__doc__ = f"{inspect.getdoc(act)}\n\n{fields}"
    return with_fields
