"""`shelfmark versions`, `rollback` and `prune`: what is in a store, which of it is published, what may go."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
from typing import Any

from pipelines.console import LOG, align, show, show_document
from pipelines.flag_types import Commands, Parser, add_output_flags, natural, positive
from store.building import read_sign
from store.damage import ignore, whole_versions
from store.errors import StoreError, UserError
from store.index import IndexManifest, read_index_manifest, version_folder
from store.location import Store
from store.process import utc_now
from store.prune import Pruned, plan_prune, prune
from store.publication import Published, last_published, missing_current, publish, read_current, read_published
from store.snapshot import SNAPSHOT_NAME

LEFTOVERS_AFTER_HOURS = 24


@dataclasses.dataclass(frozen=True, slots=True)
class VersionState:
    """A line of `shelfmark versions`.

    Attributes:
        version: Its name.
        state: published, kept (at its target, not published), under target, being written, leftover, or unreadable.
        bytes: Size of its files.
        created_at: ISO 8601, UTC; None without a manifest, as what follows.
        snapshot: What it is made of; a builder names it too.
        vectors: How many.
        recall: Measured.
        target_recall: SearchQuery for.
    """

    version: str
    state: str
    bytes: int
    created_at: str | None = None
    snapshot: str | None = None
    vectors: int | None = None
    recall: float | None = None
    target_recall: float | None = None


def _add_command(commands: Commands, name: str, summary: str) -> Parser:
    parser = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
    parser.add_argument("--store", required=True, metavar="URI", help="where the indexes lie")
    add_output_flags(parser)
    return parser


def add_versions(commands: Commands) -> None:
    """`shelfmark versions`."""
    _add_command(commands, "versions", "list the versions of the index and say which one is published")


def add_rollback(commands: Commands) -> None:
    """`shelfmark rollback`."""
    parser = _add_command(commands, "rollback", "publish an earlier version of the index")
    parser.add_argument(
        "--to",
        metavar="VERSION",
        help="default: the newest at its target that is older than the published one",
    )


def add_prune(commands: Commands) -> None:
    """`shelfmark prune`."""
    parser = _add_command(
        commands, "prune", "delete old versions, snapshots none of them needs, leftovers of dead runs"
    )
    parser.add_argument(
        "--keep",
        type=positive,
        required=True,
        metavar="N",
        help="newest versions to keep of those at their target, and as many of those under it; "
        "the published one and those being written stay in any case",
    )
    parser.add_argument(
        "--leftovers_after_hours",
        type=natural,
        default=LEFTOVERS_AFTER_HOURS,
        metavar="HOURS",
        help="what nobody finished is deleted when it was quiet for longer (default: %(default)s)",
    )
    parser.add_argument("--dry_run", action="store_true", help="delete nothing, say what would be")


def _print(flags: argparse.Namespace, text: str, document: dict[str, Any]) -> None:
    if flags.format == "json":
        show_document(document)
    else:
        show(text)


def run_versions(flags: argparse.Namespace) -> int:
    """Lists the versions, oldest first.

    Raises:
        StoreError: The store cannot be read, or CURRENT is not a version's name.
    """
    store = Store(flags.store)
    current = read_current(store)
    states = list_states(store, utc_now())
    document = {"current": current, "versions": [dataclasses.asdict(state) for state in states]}
    _print(flags, _table(store, current, states), document)
    return 0


def list_states(store: Store, now: datetime.datetime) -> list[VersionState]:
    """Every version and every folder that is none yet or none any more, oldest first."""
    current = read_current(store)
    names = [name for name in store.list("indexes") if SNAPSHOT_NAME.fullmatch(name)]
    return [_state(store, name, name == current, now) for name in names]


def _state(store: Store, version: str, is_current: bool, now: datetime.datetime) -> VersionState:
    size = store.total_bytes(version_folder(version))
    try:
        manifest = read_index_manifest(store, version)
    except UserError:
        sign = read_sign(store, version)
        if sign is None or not sign.is_alive(now):
            return VersionState(version, "leftover", size)
        return VersionState(version, "being written", size, snapshot=sign.snapshot)
    except StoreError:
        return VersionState(version, "unreadable", size)
    return VersionState(
        version,
        "published" if is_current else "kept" if manifest.meets_target else "under target",
        size,
        manifest.created_at,
        manifest.snapshot,
        manifest.vectors,
        manifest.recall.measured,
        manifest.recall.target,
    )


def _table(store: Store, current: str | None, states: list[VersionState]) -> str:
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


def run_rollback(flags: argparse.Namespace) -> int:
    """Publishes another version than the one that is.

    Raises:
        UserError: There is no such version, or its recall is under its target.
        StoreError: A file of the version is missing, or somebody else published at the same time.
    """
    store = Store(flags.store)
    over = read_published(store)
    target = _named_target(store, flags.to) if flags.to else _default_target(store, over)
    before = over.version or None if over else None
    published = publish(store, target.version, over=over, by="rollback")
    _print(flags, f"{before or 'nothing'} -> {target.version}", {"from": before, "to": target.version})
    if published.rolled_back_from is not None:
        LOG.info("This stands: index and reindex publish nothing over it until they are told to by --publish.")
    return 0


def _named_target(store: Store, version: str) -> IndexManifest:
    manifest = read_index_manifest(store, version)
    if not manifest.meets_target:
        raise UserError(
            f"--to {version}: expected recall of at least {manifest.recall.target}, found "
            f"{manifest.recall.measured}; choose one that shelfmark versions calls kept"
        )
    return manifest


def _default_target(store: Store, over: Published | None) -> IndexManifest:
    """The newest whole version that is older than the published one; where CURRENT is lost, what it named last."""
    if over is None or not over.version:
        last = last_published(store)
        if last is None:
            raise UserError(
                f"no version of {store.uri} is at its target; build one with shelfmark index, or name one with --to"
            )
        return read_index_manifest(store, last)
    for manifest in whole_versions(store, ignore):
        if manifest.version < over.version and manifest.meets_target:
            return manifest
    raise UserError(
        f"no version older than {over.version} is at its target; see shelfmark versions --store {store.uri}"
    )


def run_prune(flags: argparse.Namespace) -> int:
    """Deletes what nobody needs, or says what it would delete.

    Raises:
        StoreError: See `prune`.
    """
    store = Store(flags.store)
    after = datetime.timedelta(hours=flags.leftovers_after_hours)
    act = plan_prune if flags.dry_run else prune
    pruned = act(store, flags.keep, utc_now(), after)
    _print(flags, _describe(pruned, flags.dry_run), {"dry_run": flags.dry_run, **dataclasses.asdict(pruned)})
    return 0


def _describe(pruned: Pruned, dry_run: bool) -> str:
    damaged = [f"{version_folder(name)}: its manifest is cut; left alone" for name in pruned.damaged]
    counts = [
        (len(pruned.versions), "version"),
        (len(pruned.snapshots), "snapshot"),
        (len(pruned.leftovers), "leftover"),
    ]
    parts = ", ".join(f"{count} {noun}{'' if count == 1 else 's'}" for count, noun in counts)
    return "\n".join(
        [*damaged, *pruned.paths, f"{'would delete' if dry_run else 'deleted'} {parts}: {pruned.bytes:,} bytes"]
    )
