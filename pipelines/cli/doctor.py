"""`shelfmark doctor`: works where the packages of the pinned set do not."""

from __future__ import annotations

import argparse

from pipelines.cli.console import show, show_document
from pipelines.cli.flag_types import Parser, add_output_flags
from pipelines.doctor import examine, render


def add_flags(parser: Parser) -> None:
    """Only those that every command has."""
    add_output_flags(parser)


def run(flags: argparse.Namespace, beam_flags: list[str]) -> int:
    """Looks, and prints; 1 where something is amiss."""
    del beam_flags  # takes none
    report = examine()
    if flags.format == "json":
        show_document(report.to_dict())
    else:
        show(render(report))
    return 0 if report.healthy else 1
