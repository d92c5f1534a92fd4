"""`shelfmark versions`."""

from __future__ import annotations

import argparse

from pipelines.cli.console import align, show, show_document
from pipelines.cli.flag_types import Parser, add_output_flags
from pipelines.versions import Versions, VersionState, list_versions
from store.location import Store
from store.publication import last_published, missing_current


def add_flags(parser: Parser) -> None:
    """Which store."""
    parser.add_argument("--store", required=True, metavar="URI", help="where the indexes lie")
    add_output_flags(parser)


def run(flags: argparse.Namespace, beam_flags: list[str]) -> int:
    """Lists the versions, oldest first.

    Raises:
        UserError, StoreError: See `list_versions`.
    """
    del beam_flags  # takes none
    versions = list_versions(flags.store)
    if flags.format == "json":
        show_document(versions.to_dict())
    else:
        show(_table(Store(flags.store), versions))
    return 0


def _table(store: Store, versions: Versions) -> str:
    current, states = versions.current, versions.states
    if not states:
        return f"no versions in {store.uri}; build one with shelfmark index --store {store.uri}"
    head = ("version", "created", "snapshot", "vectors", "recall", "bytes", "state")
    lines = align([head, *map(_cells, states)])
    if current is None:
        last = last_published(store)
        lines.append("nothing is published" if last is None else missing_current(store, last))
    elif current not in {state.version for state in states if state.state == "published"}:
        lines.append(f"CURRENT names {current}, which cannot be opened; publish another with shelfmark rollback --to")
    return "\n".join(lines)


def _cells(state: VersionState) -> tuple[str, ...]:
    recall = "-" if state.recall is None else f"{state.recall:.4f} of {state.target_recall}"
    vectors = "-" if state.vectors is None else f"{state.vectors:,}"
    size = f"{state.bytes:,}"
    return (state.version, state.created_at or "-", state.snapshot or "-", vectors, recall, size, state.state)
