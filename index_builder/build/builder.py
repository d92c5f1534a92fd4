"""From a snapshot to a version: planned, built, measured, verified, committed, published."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import multiprocessing
import platform
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np

from index_builder.build.exact_version import build_exact
from index_builder.build.measurement import MeasuredIndex, Stopwatch
from index_builder.build.plan import Plan, describe_plan, plan_index
from index_builder.build.request import BuildRequest
from index_builder.build.shard import WORK_FOLDER, ShardTask, build_shard
from index_builder.build.snapshot_rows import SnapshotRows
from index_builder.build.tree_version import RunShards, TreeVersion
from index_builder.build.update import build_trees
from index_builder.pages import index_report, overview
from index_builder.search.rows import Hit, Rows
from index_builder.search.searcher import Searcher
from index_builder.search.version_files import describe_files, list_files, local_folder, open_version
from store.building import BUILDING_FILE, Building
from store.damage import is_rotten, setting_aside
from store.errors import GateRefused, StoreError
from store.index import IndexManifest, commit_version, version_folder
from store.location import Store
from store.machine import available_memory_bytes, processors
from store.process import utc_now
from store.publication import (
    last_published,
    missing_current,
    publish,
    read_published,
    refuse_after_rollback,
    standing,
)
from store.snapshot import new_name

ThumbnailsOf = Callable[[Searcher], Callable[[Hit], str | None]]

REPORT_FILE = "report.html"

_CHECKED_ROWS = 20
_SAME_SCORE = 1e-4
_DUPLICATES_SAMPLE = 2_000


def build_index(
    store: Store,
    request: BuildRequest,
    say: Callable[[str], None] = lambda _: None,
    *,
    run_shards: RunShards | None = None,
    thumbnails_of: ThumbnailsOf = lambda _: lambda _: None,
    over_rollback: bool = False,
) -> IndexManifest:
    """Builds, measures and publishes a version: `build_version`, and what becomes of it.

    Args:
        store: See `build_version`.
        request: See `build_version`.
        say: See `build_version`.
        run_shards: See `build_version`.
        thumbnails_of: See `build_version`.
        over_rollback: Publish although a person rolled back to what is published now.

    Raises:
        UserError, StoreError: See `build_version` and `publish`.
        GateRefused: A rollback stands and nothing was built; or the target was not reached, and the version is kept and
            not published.
    """
    over = read_published(store)
    if not over_rollback:
        refuse_after_rollback(standing(store, over), store)
    if over is None and (last := last_published(store)) is not None:
        say(f"{missing_current(store, last)}; what is built now is published in its place")
    manifest = _build_of_whole(store, request, say, run_shards, thumbnails_of)
    if not manifest.meets_target:
        recall = manifest.recall
        raise GateRefused(
            f"recall@{recall.k} {recall.measured:.4f} is under the target {recall.target}: "
            f"version {manifest.version} is kept and not published; try more --dimensions or a lower --target_recall"
        )
    publish(store, manifest.version, over=over, by="index")
    return manifest


def _build_of_whole(
    store: Store,
    request: BuildRequest,
    say: Callable[[str], None],
    run_shards: RunShards | None,
    thumbnails_of: ThumbnailsOf,
) -> IndexManifest:
    """`build_version`; of the newest snapshots those are set aside that are not what was written."""
    while True:
        snapshot = request.snapshot or SnapshotRows.open(store, None, say).manifest.snapshot
        try:
            named = dataclasses.replace(request, snapshot=snapshot)
            return build_version(store, named, say, run_shards=run_shards, thumbnails_of=thumbnails_of)
        except StoreError:
            if request.snapshot is not None or not is_rotten(store, snapshot, setting_aside(store, say)):
                raise


def build_version(
    store: Store,
    request: BuildRequest,
    say: Callable[[str], None] = lambda _: None,
    *,
    run_shards: RunShards | None = None,
    thumbnails_of: ThumbnailsOf = lambda _: lambda _: None,
) -> IndexManifest:
    """Builds, measures and commits a version; whether it reaches its target is in its manifest.

    Args:
        store: Holds the snapshot; gets the version.
        request: What to build.
        say: Told what is going on, a line at a time.
        run_shards: Builds shards; None for processes of this machine.
        thumbnails_of: For the version, row -> data URI for the report, or None where there is no picture.

    Raises:
        UserError: No snapshot, an empty one, no version to start from, or too little memory.
        StoreError: The snapshot is damaged or mixed, or the version cannot be written.
    """
    began = time.perf_counter()
    snapshot = SnapshotRows.open(store, request.snapshot, say)
    plan = _plan(snapshot, request)
    request = dataclasses.replace(request, k=max(1, min(request.k, snapshot.rows - 1)))
    say(describe_plan(plan))
    now = utc_now()
    version = new_name(now)
    watch = Stopwatch()
    with Building(store, version, snapshot.manifest.snapshot):
        with local_folder(store, version_folder(version)) as folder:
            built = _build(store, snapshot, plan, version, folder, request, say, watch, run_shards or run_in_processes)
            _remove_work(store, version, folder)
            say("writing the report")
            seconds = {"seconds": time.perf_counter() - began, **watch.seconds}
            manifest = _describe(snapshot, version, now, built, seconds)
            manifest = _finish(manifest, built, folder, thumbnails_of)
        _check_reload(store, manifest, built)
        commit_version(store, manifest)
    return manifest


def _describe(
    snapshot: SnapshotRows, version: str, now: datetime.datetime, built: MeasuredIndex, seconds: dict[str, float]
) -> IndexManifest:
    packages = ("scann", "tensorflow", "numpy", "pyarrow")
    return IndexManifest(
        version=version,
        created_at=now.isoformat(),
        snapshot=snapshot.manifest.snapshot,
        encoder=snapshot.manifest.encoder,
        vectors=snapshot.rows,
        shards=built.shards,
        config=built.config,
        recall=built.recall,
        latency=built.latency,
        memory_bytes=built.memory_bytes,
        files=(),
        timing={part: round(spent, 3) for part, spent in seconds.items()},
        versions={
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in packages},
        },
    )


def _plan(snapshot: SnapshotRows, request: BuildRequest) -> Plan:
    available = available_memory_bytes()
    limit = request.memory_limit_bytes or available
    return plan_index(
        snapshot.rows,
        snapshot.embedding_dim,
        min(limit, available),
        request.target_recall,
        cpus=request.workers or processors(),
        dimensions=request.dimensions,
    )


def _build(
    store: Store,
    snapshot: SnapshotRows,
    plan: Plan,
    version: str,
    folder: Path,
    request: BuildRequest,
    say: Callable[[str], None],
    watch: Stopwatch,
    run_shards: RunShards,
) -> MeasuredIndex:
    if plan.kind == "exact":
        if request.start_from is not None:
            say(f"few enough rows for exact search: nothing is taken over from version {request.start_from}")
        return build_exact(snapshot, plan, folder, request.k, request.target_recall, request.seed, watch)
    version_to_be = TreeVersion(
        store=store,
        snapshot=snapshot,
        version=version,
        folder=folder,
        plan=plan,
        k=request.k,
        target=request.target_recall,
        seed=request.seed,
        threads=max(1, processors() // plan.workers),
        say=say,
        watch=watch,
    )
    return build_trees(version_to_be, request.start_from, run_shards)


def _remove_work(store: Store, version: str, folder: Path) -> None:
    """Removes what only the building needed, here and where other machines left it in the store."""
    shutil.rmtree(folder / WORK_FOLDER, ignore_errors=True)
    store.remove_folder(f"{version_folder(version)}/{WORK_FOLDER}")


def run_in_processes(tasks: Sequence[ShardTask], workers: int) -> None:
    """Builds shards in processes of their own, so many at once.

    Raises:
        StoreError: A shard could not be built, or its process was killed.
    """
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            for _ in pool.map(build_shard, tasks):
                pass
        except BrokenProcessPool as error:
            raise StoreError(
                "a process that builds a shard was killed; is there memory enough? (--memory_limit)"
            ) from error


def _finish(
    manifest: IndexManifest,
    built: MeasuredIndex,
    folder: Path,
    thumbnails_of: ThumbnailsOf,
) -> IndexManifest:
    """Writes the report and lists every file."""
    rows = Rows.open([folder / shard.name for shard in built.shards])
    searcher = Searcher(manifest, built.engine, rows)
    sample = np.random.default_rng(0).permutation(manifest.vectors)[:_DUPLICATES_SAMPLE]
    duplicates = overview.near_duplicates(searcher, np.sort(sample))
    page = index_report.report_html(manifest, duplicates, overview.map_of_sample(searcher), thumbnails_of(searcher))
    (folder / REPORT_FILE).write_text(page, encoding="utf-8")
    paths = [path for path in list_files(folder) if path != BUILDING_FILE and not path.endswith(".tmp")]
    return dataclasses.replace(manifest, files=describe_files(folder, paths))


def _check_reload(store: Store, manifest: IndexManifest, built: MeasuredIndex) -> None:
    """Opens the version as a reader would, every digest compared, and searches it.

    Raises:
        StoreError: It does not answer as the index did that was measured.
    """
    reopened = Searcher.from_folder(manifest, open_version(store, manifest, verify=True))
    rows = np.linspace(0, manifest.vectors - 1, min(_CHECKED_ROWS, manifest.vectors)).astype(np.int64)
    k = min(manifest.recall.k, manifest.vectors)
    vectors = built.engine.vectors(rows)
    before, after = (
        one.search(vectors, k).scores for one in (Searcher(manifest, built.engine, reopened.rows), reopened)
    )
    if not np.allclose(before, after, atol=_SAME_SCORE, equal_nan=True):  # rows that tie may change places
        raise StoreError(f"version {manifest.version} does not answer as it did when it was measured; build it again")
