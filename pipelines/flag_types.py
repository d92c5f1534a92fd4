"""What every command's flags are made of; imports nothing that can be broken, so that `doctor` can always speak."""

from __future__ import annotations

import argparse
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


def seconds(text: str) -> float:
    """Seconds, more than 0."""
    return _number(text, float, lambda value: 0 < value < float("inf"), "seconds, more than 0")


def _number(text: str, kind: type[Number], holds: Callable[[Number], bool], expected: str) -> Number:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not holds(value):
        raise argparse.ArgumentTypeError(f"expected {expected}, found {text!r}")
    return value
