"""What every command's flags are made of; imports nothing that can be broken, so that `doctor` can always speak."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import NoReturn, TypeAlias, TypeVar

from store.errors import UserError

Number = TypeVar("Number", int, float)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Refuses the command line.

        Raises:
            UserError: Always.
        """
        raise UserError(f"{message}; see {self.prog} --help")


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"


def add_output_flags(parser: Parser) -> None:
    """--format and --verbose, as every command has them."""
    parser.add_argument("--format", choices=("text", "json"), default="text", help="json: one document on stdout")
    parser.add_argument("--verbose", action="store_true", help="show what the libraries have to say")


def add_doctor(commands: Commands) -> None:
    """`shelfmark doctor`."""
    summary = "what to know before a long run: versions, precision, GPUs, disk, memory"
    add_output_flags(commands.add_parser("doctor", help=summary, description=summary, allow_abbrev=False))


def new_parser() -> tuple[Parser, Commands]:
    """The command line without its commands."""
    parser = Parser(prog="shelfmark", description="Turns product-catalog pictures into a searchable index.")
    return parser, parser.add_subparsers(dest="command", required=True, parser_class=Parser, metavar="COMMAND")


def positive(text: str) -> int:
    """A whole number from 1."""
    return _number(text, int, lambda value: value >= 1, "a whole number from 1")


def natural(text: str) -> int:
    """A whole number from 0."""
    return _number(text, int, lambda value: value >= 0, "a whole number from 0")


def ratio(text: str) -> float:
    """A number from 0 to 1."""
    return _number(text, float, lambda value: 0 <= value <= 1, "a number from 0 to 1")


def recall_target(text: str) -> float:
    """A number above 0, at most 1."""
    return _number(text, float, lambda value: 0 < value <= 1, "a number above 0 and at most 1")


def size_bytes(text: str) -> int:
    """Bytes, with or without a unit: 500MB, 6GiB."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(I?)B?", text.strip().upper())
    if found is None or float(found[1]) <= 0:
        raise argparse.ArgumentTypeError(f"expected a size such as 500MB or 6GiB, found {text!r}")
    return int(float(found[1]) * (1024 if found[3] else 1000) ** " KMGT".index(found[2] or " "))


def seconds(text: str) -> float:
    """Seconds, more than 0."""
    return _number(text, float, lambda value: 0 < value < float("inf"), "seconds, more than 0")


def seconds_or_none(text: str) -> float:
    """Seconds, 0 or more."""
    return _number(text, float, lambda value: 0 <= value < float("inf"), "seconds, 0 or more")


def money(text: str) -> float:
    """An amount, 0 or more, in any currency."""
    return _number(text, float, lambda value: 0 <= value < float("inf"), "an amount from 0")


def _number(text: str, kind: type[Number], holds: Callable[[Number], bool], expected: str) -> Number:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not holds(value):
        raise argparse.ArgumentTypeError(f"expected {expected}, found {text!r}")
    return value
