"""Every command, registered here; a command's own module is imported when it is asked for."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
from typing import Protocol, cast

from pipelines.cli.flag_types import Parser


class CommandModule(Protocol):
    """What the module of a command has."""

    def add_flags(self, parser: Parser) -> None:
        """Adds the command's flags."""

    def run(self, flags: argparse.Namespace, beam_flags: list[str]) -> int:
        """Runs the command and returns its exit code; `beam_flags` is empty where it takes none."""


@dataclasses.dataclass(frozen=True, slots=True)
class Command:
    """A command.

    Attributes:
        name: As it is typed.
        summary: One line of help.
        module: Below pipelines.cli.
        takes_beam_flags: Flags it does not know go to Apache Beam.
    """

    name: str
    summary: str
    module: str
    takes_beam_flags: bool = False

    def load(self) -> CommandModule:
        """Imports the command's module."""
        return cast(CommandModule, importlib.import_module(f"pipelines.cli.{self.module}"))

    def parser(self) -> Parser:
        """Parses what comes after the command's name."""
        epilog = "Flags that are not listed go to Apache Beam: --runner, --direct_num_workers, --project, ..."
        parser = Parser(
            prog=f"shelfmark {self.name}",
            description=self.summary,
            epilog=epilog if self.takes_beam_flags else None,
            allow_abbrev=False,
            takes_others=self.takes_beam_flags,
        )
        self.load().add_flags(parser)
        return parser


COMMANDS = (
    Command("demo", "draw a sample catalog, embed it, index it, search it", "demo"),
    Command("sample-catalog", "draw a catalog of made-up products", "sample_catalog"),
    Command("embed", "embed the pictures of a catalog into a new snapshot; what the last one has is not done again",
            "embed", takes_beam_flags=True),
    Command("index", "build the ScaNN index of a snapshot, measure it, publish it", "index", takes_beam_flags=True),
    Command("search", "what looks like this picture, or this item of the catalog", "search"),
    Command("evaluate", "how good the answers are, on pictures whose labels are known", "evaluate"),
    Command("rejects", "list the rows of a snapshot that have no embedding, and why", "rejects"),
    Command("versions", "list the versions of the index and say which one is published", "versions"),
    Command("rollback", "publish an earlier version of the index", "rollback"),
    Command("prune", "delete old versions, snapshots none of them needs, leftovers of dead runs", "prune"),
    Command("reindex", "embed what changed, update the index, publish it if it passes its gates, delete what is old",
            "reindex", takes_beam_flags=True),
    Command("runs", "list what the re-indexing runs of a store did", "runs"),
    Command("unlock", "take the lease of a store away from a run that is gone, or whose clock is far ahead", "unlock"),
    Command("serve", "serve the published index: an HTTP API, and a page to search with", "serve"),
    Command("doctor", "what to know before a long run: versions, precision, GPUs, disk, memory", "doctor"),
    Command("completion", "print a script that completes commands and flags in a shell", "completion"),
)  # fmt: skip
BY_NAME = {command.name: command for command in COMMANDS}
