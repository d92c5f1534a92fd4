"""`shelfmark embed`."""

from __future__ import annotations

import argparse

from pipelines.cli.console import ProgressDisplay, show_result
from pipelines.cli.embedding_flags import add_embedding_flags
from pipelines.cli.flag_types import Parser, add_output_flags, request_of
from pipelines.embed import embed
from pipelines.requests import EmbedRequest


def add_flags(parser: Parser) -> None:
    """What is embedded, with what and how."""
    add_embedding_flags(parser, EmbedRequest)
    add_output_flags(parser)


def run(flags: argparse.Namespace, beam_flags: list[str]) -> int:
    """Embeds, and prints a summary.

    Raises:
        UserError, StoreError, GateRefused: See `pipelines.embed.embed`.
    """
    show_result(embed(request_of(EmbedRequest, flags, beam_flags=beam_flags), watch=ProgressDisplay), flags.format)
    return 0
