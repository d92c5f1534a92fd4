"""What numbers a user may give: checked in requests, and by the command line before them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

from store.errors import UserError


@dataclasses.dataclass(frozen=True, slots=True)
class Range:
    """Numbers that make sense somewhere.

    Attributes:
        kind: int or float.
        expected: The range in words.
        holds: Whether a number is in it.
    """

    kind: type[int] | type[float]
    expected: str
    holds: Callable[[float], bool]


POSITIVE = Range(int, "a whole number from 1", lambda value: value >= 1)
NATURAL = Range(int, "a whole number from 0", lambda value: value >= 0)
RATIO = Range(float, "a number from 0 to 1", lambda value: 0 <= value <= 1)
RECALL_TARGET = Range(float, "a number above 0 and at most 1", lambda value: 0 < value <= 1)
SECONDS = Range(float, "seconds, more than 0", lambda value: 0 < value < math.inf)
SECONDS_OR_NONE = Range(float, "seconds, 0 or more", lambda value: 0 <= value < math.inf)
WAIT = Range(float, "seconds, 0 or more", lambda value: value >= 0)
MONEY = Range(float, "an amount from 0", lambda value: 0 <= value < math.inf)


def check_ranges(request: object, **ranges: Range) -> None:
    """Refuses a request with a number that makes no sense; a field that is None is left alone.

    Args:
        request: Has a field of each name.
        **ranges: What each field may be.

    Raises:
        UserError: A field is out of range; the message names it.
    """
    for name, allowed in ranges.items():
        value = getattr(request, name)
        if value is None:
            continue
        numbers = int if allowed.kind is int else (int, float)
        if isinstance(value, bool) or not isinstance(value, numbers) or not allowed.holds(value):
            raise UserError(f"{name}: expected {allowed.expected}, found {value!r}")


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuses a word that is none of the choices.

    Raises:
        UserError: The message names the field and the choices.
    """
    if value not in choices:
        raise UserError(f"{name}: expected one of {', '.join(choices)}, found {value!r}")
