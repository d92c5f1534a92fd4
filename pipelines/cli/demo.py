"""`shelfmark demo`: from a drawn catalog to a search, each step by the command a user would type."""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines.cli.console import show, show_document
from pipelines.cli.flag_types import Parser, add_output_flags, positive
from pipelines.log import LOG
from store.errors import UserError

_NEIGHBOURS = 5


def add_flags(parser: Parser) -> None:
    """Where to and how much."""
    parser.add_argument("directory", metavar="DIR", nargs="?", default="demo", help="where to (default: demo)")
    parser.add_argument("--items", type=positive, default=100, help="products to draw (default: %(default)s)")
    parser.add_argument("--views", type=positive, default=3, help="pictures of each (default: %(default)s)")
    add_output_flags(parser)


def run(flags: argparse.Namespace, beam_flags: list[str]) -> int:
    """Runs the demonstration."""
    del beam_flags  # takes none
    from pipelines.cli.main import run_command

    return Demo(flags, run_command).run()


class Demo:
    """Runs commands one after the other and, for --format json, keeps what each has printed."""

    def __init__(self, flags: argparse.Namespace, run: Callable[[list[str]], int]) -> None:
        """Takes what to run commands with.

        Args:
            flags: Of `shelfmark demo`.
            run: Runs a command line and returns its exit code.
        """
        self._flags = flags
        self._run = run
        self._directory = Path(flags.directory)
        self._documents: dict[str, Any] = {}

    def run(self) -> int:
        """Catalog, snapshot, index, search, quality.

        Raises:
            UserError, StoreError, GateRefused: As the commands do.
        """
        flags, directory = self._flags, self._directory
        table, store = directory / "catalog" / "catalog.csv", str(directory / "store")
        LOG.info(f"1. Drawing {flags.items} products, {flags.views} pictures of each")
        sizes = ["--items", str(flags.items), "--views", str(flags.views)]
        self._step("sample-catalog", [str(table.parent), *sizes])
        LOG.info("\n2. Embedding every picture")
        self._embed(["--catalog", str(table), "--store", store])
        LOG.info("\n3. Building the index, measuring it, publishing it")
        self._step("index", ["--store", store])
        with open(table, encoding="utf-8", newline="") as file:
            picture = table.parent / next(csv.DictReader(file))["image_uri"]
        LOG.info("\n4. What looks like the first picture? (It is in the catalog, so it finds itself first.)")
        sheet = ["--sheet", str(directory / "search.html")]
        self._step("search", ["--store", store, "--image", str(picture), "-k", str(_NEIGHBOURS), *sheet])
        if flags.views > 1:
            LOG.info("\n5. How often is the nearest other picture another view of the same item? (precision@1)")
            page = ["--html", str(directory / "evaluation.html")]
            self._step("evaluate", ["--store", store, "--label", "item_id", "-k", "10", *page], shown=_precision)
        pages = ["search.html", "evaluation.html"] if flags.views > 1 else ["search.html"]
        LOG.info(
            f"\nPages to look at: {', '.join(f'{directory}/{page}' for page in pages)}, and the index's report.html"
        )
        LOG.info(f"To search with pictures of your own: {_shelfmark()} serve --store {store}")
        LOG.info("and open http://127.0.0.1:8080 in a browser; docs/serving.md has the same as an API.")
        if flags.format == "json":
            show_document(self._documents)
        return 0

    def _embed(self, arguments: list[str]) -> None:
        try:
            self._step("embed", arguments)
            return
        except UserError as error:
            if not str(error).startswith("--weights imagenet"):
                raise
            LOG.warning(f"   {error}")
        LOG.warning(
            "   Going on with --weights random: UNTRAINED weights. The run is real, its similarities mean nothing."
        )
        self._step("embed", [*arguments, "--weights", "random"])

    def _step(self, command: str, arguments: list[str], shown: Callable[[dict[str, Any]], str] | None = None) -> None:
        LOG.info(f"   shelfmark {shlex.join([command, *arguments])}")
        as_json = self._flags.format == "json" or shown is not None
        if not as_json:
            self._run([command, *arguments])
            return
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            self._run([command, *arguments, "--format", "json"])
        document = self._documents[command] = json.loads(printed.getvalue())
        if shown is not None and self._flags.format != "json":
            show(shown(document))


def _shelfmark() -> str:
    """The command as a user can type it here: by its path where it is not on PATH."""
    beside_python = Path(sys.executable).with_name("shelfmark")
    if shutil.which("shelfmark") or not beside_python.exists():
        return "shelfmark"
    near = beside_python.is_relative_to(Path.cwd())
    return str(beside_python.relative_to(Path.cwd()) if near else beside_python)


def _precision(document: dict[str, Any]) -> str:
    found, queries = document["precision_at_1"], document["queries"]
    weights = document["encoder"]["weights"]
    return (
        f"precision@1 of another view of the same item: {found['value']:.3f} (95% interval {found['low']:.3f} to "
        f"{found['high']:.3f}) over {queries:,} queries, weights {weights}"
    )
