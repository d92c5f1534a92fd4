"""`shelfmark completion`: for bash, zsh or tcsh."""

from __future__ import annotations

import argparse

import shtab

from pipelines.cli.commands import COMMANDS
from pipelines.cli.flag_types import Parser, add_noise_flags


def add_flags(parser: Parser) -> None:
    """Which shell."""
    parser.add_argument(
        "shell",
        choices=shtab.SUPPORTED_SHELLS,
        help='print its script: eval "$(shelfmark completion bash)" completes in this shell',
    )
    add_noise_flags(parser)


def run(flags: argparse.Namespace, beam_flags: list[str]) -> int:
    """Prints the script."""
    del beam_flags  # takes none
    print(shtab.complete(_whole_parser(), shell=flags.shell))
    return 0


def _whole_parser() -> argparse.ArgumentParser:
    """Every command and its flags in one parser, which only a completion needs."""
    whole = argparse.ArgumentParser(prog="shelfmark")
    commands = whole.add_subparsers()
    for command in COMMANDS:
        parser = commands.add_parser(command.name, help=command.summary, description=command.summary)
        command.load().add_flags(parser)  # type: ignore[arg-type]
    return whole
