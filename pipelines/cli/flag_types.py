"""What every command's flags are made of; imports nothing that can be broken, so that `doctor` can always speak."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import re
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, TypeVar

from store import ranges
from store.errors import UserError
from store.ranges import Range

Request = TypeVar("Request")


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, whose long flags may be written with dashes or underscores."""

    def __init__(self, *, takes_others: bool = False, **settings: Any) -> None:
        """Takes argparse's own settings.

        Args:
            takes_others: Flags that are not known are somebody else's.
            **settings: See argparse.ArgumentParser.
        """
        super().__init__(**settings)
        self._takes_others = takes_others

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parses; a flag that is nearly one of ours is refused before one that is missing is asked for.

        Raises:
            UserError: A flag is unknown, missing or has a value that makes no sense.
        """
        given = [self._spelled(argument) for argument in args or ()]
        for argument in given:
            self._refuse_mistyped(argument)
        flags, rest = super().parse_known_args(given, namespace)
        if rest and not self._takes_others:
            self.error(f"unknown flag {rest[0]}")
        return flags, rest

    def error(self, message: str) -> NoReturn:
        """Refuses the command line.

        Raises:
            UserError: Always.
        """
        raise UserError(f"{message}; see {self.prog} --help")

    def _spelled(self, argument: str) -> str:
        """--batch-size is --batch_size; what is no flag of ours stays as it is."""
        name, equals, value = argument.partition("=")
        other = f"--{name[2:].replace('-', '_')}"
        if name.startswith("--") and name not in self._option_string_actions and other in self._option_string_actions:
            return f"{other}{equals}{value}"
        return argument

    def _refuse_mistyped(self, argument: str) -> None:
        name = argument.partition("=")[0]
        if not re.fullmatch(r"--[a-zA-Z][\w-]*", name) or name in self._option_string_actions:
            return
        near = nearest(name, self._option_string_actions)
        if near and not (self._takes_others and _is_beams(name)):
            self.error(f"unknown flag {name}: did you mean {' or '.join(near)}?")


def _is_beams(name: str) -> bool:
    from pipelines.beam_flags import is_known

    return is_known(name)


def nearest(word: str, words: Iterable[str]) -> list[str]:
    """Those of `words` that `word` may be a slip of, the nearest first."""
    return difflib.get_close_matches(word, list(words), n=2, cutoff=0.75)


def add_output_flags(parser: argparse.ArgumentParser) -> None:
    """--format, --quiet and --verbose, as every command has them."""
    parser.add_argument("--format", choices=("text", "json"), default="text", help="json: one document on stdout")
    add_noise_flags(parser)


def add_noise_flags(parser: argparse.ArgumentParser) -> None:
    """--quiet and --verbose."""
    noise = parser.add_mutually_exclusive_group()
    noise.add_argument("--quiet", action="store_true", help="say only what goes wrong, and the result")
    noise.add_argument("--verbose", action="store_true", help="show what the libraries have to say")


def request_of(kind: type[Request], flags: argparse.Namespace, **others: Any) -> Request:
    """A request of the flags that have the names of its fields.

    Args:
        kind: A dataclass.
        flags: As parsed.
        **others: Fields that no flag has.
    """
    assert dataclasses.is_dataclass(kind)
    named = {field.name: getattr(flags, field.name) for field in dataclasses.fields(kind) if hasattr(flags, field.name)}
    return kind(**{**named, **others})


def _number_in(allowed: Range) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            value = allowed.kind(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"expected {allowed.expected}, found {text!r}") from error
        if not allowed.holds(value):
            raise argparse.ArgumentTypeError(f"expected {allowed.expected}, found {text!r}")
        return value

    return parse


positive = _number_in(ranges.POSITIVE)
natural = _number_in(ranges.NATURAL)
ratio = _number_in(ranges.RATIO)
recall_target = _number_in(ranges.RECALL_TARGET)
seconds = _number_in(ranges.SECONDS)
seconds_or_none = _number_in(ranges.SECONDS_OR_NONE)
money = _number_in(ranges.MONEY)


def size_bytes(text: str) -> int:
    """Bytes, with or without a unit: 500MB, 6GiB."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(I?)B?", text.strip().upper())
    if found is None or float(found[1]) <= 0:
        raise argparse.ArgumentTypeError(f"expected a size such as 500MB or 6GiB, found {text!r}")
    return int(float(found[1]) * (1024 if found[3] else 1000) ** " KMGT".index(found[2] or " "))


def condition(text: str) -> tuple[str, str]:
    """An attribute and the value it must have, from ATTRIBUTE=VALUE; the value may hold more equals signs."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"expected ATTRIBUTE=VALUE, found {text!r}")
    return name, value
