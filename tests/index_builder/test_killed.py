from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks.vectors import write_snapshot
from index_builder.build.builder import build_index
from index_builder.build.request import BuildRequest
from index_builder.build.shard import ShardTask, build_shard
from index_builder.search.searcher import Searcher
from store import conditional
from store.index import list_versions, read_index_manifest
from store.location import Store
from store.publication import current_version, read_current
from tests.index_builder.conftest import Indexed, use_trees
from tests.support.killed import ROOT, killed_at_every_step, run_alone
from tests.support.memory_store import MemoryCell
from tests.support.versions import verify_files

WRITE = "from benchmarks.vectors import write_snapshot; from store.location import Store; import sys; "


def kill_builds(folder: Path) -> int:
    """Kills a build at every step; returns how many there are."""
    uri = str(folder / "store")
    code = WRITE + "write_snapshot(Store(sys.argv[1]), 300, seed=2, dimensions=32)"
    subprocess.run([sys.executable, "-c", code, uri], cwd=ROOT, check=True)
    store = Store(uri)

    def check(step: int) -> None:
        del step
        version = read_current(store)
        if version is not None:
            verify_files(store, read_index_manifest(store, version))

    return killed_at_every_step(folder, lambda: build_index(store, BuildRequest()), check)


def test_killed_at_any_step_of_a_build_current_names_a_whole_version(tmp_path: Path) -> None:
    steps = run_alone("tests.index_builder.test_killed", "kill_builds", tmp_path)
    assert steps > 10
    store = Store(str(tmp_path / "store"))
    searcher = Searcher.open(store.uri, verify=True)  # the build after the last kill
    assert searcher.version in list_versions(store)
    assert searcher.manifest.recall.measured == 1


SLOW_BUILD = """
import sys, time, pytest
from index_builder.build.builder import build_index
from index_builder.build.request import BuildRequest
from store.location import Store
from tests.index_builder.conftest import use_trees
def say(line):
    print(line, flush=True)
if __name__ == "__main__":
    use_trees(pytest.MonkeyPatch(), 2000, queries=100)
    build_index(Store(sys.argv[1]), BuildRequest(dimensions=24), say)
"""


@pytest.fixture
def tree_store(tmp_path: Path) -> Store:
    store = Store(str(tmp_path / "store"))
    write_snapshot(store, 4_000, seed=1, dimensions=96)
    return store


def start_build(store: Store) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", SLOW_BUILD, store.uri], cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("at", ["trying 24", "building 1 more", "measuring settings"])
def test_killed_amid_trees_and_shards_nothing_is_left_that_counts(tree_store: Store, at: str) -> None:
    with start_build(tree_store) as build:
        assert build.stdout is not None
        for line in build.stdout:
            if line.startswith(at):
                build.kill()
                break
    assert build.returncode == -9
    assert (current_version(tree_store), list_versions(tree_store)) == (None, [])


def test_two_builds_at_once_leave_two_whole_versions(tree_store: Store) -> None:
    builds = [start_build(tree_store) for _ in range(2)]
    for build in builds:
        build.communicate()
    assert sorted(build.returncode for build in builds) == [0, 1], "the slower is told that it publishes nothing"
    versions = list_versions(tree_store)
    assert len(versions) == 2
    assert current_version(tree_store) in versions
    for version in versions:
        Searcher.open(tree_store.uri, version, verify=True)


def test_a_store_that_is_not_a_local_folder_is_written_and_read_through_copies(
    sharded: Indexed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(str(tmp_path / "store"))
    write_snapshot(store, 3_000, seed=1, dimensions=96)
    (tmp_path / "cache").mkdir()
    monkeypatch.setattr(Store, "local_path", lambda self, path: None)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "cache"))
    monkeypatch.setattr(conditional, "_cell", MemoryCell)
    use_trees(monkeypatch, 1_500, queries=100)

    def here(tasks: Sequence[ShardTask], workers: int) -> None:
        for task in tasks:
            build_shard(task)

    manifest = build_index(store, BuildRequest(dimensions=24), run_shards=here)
    searcher = Searcher.open(store.uri)
    assert (tmp_path / "cache" / "shelfmark-indexes" / manifest.version / "projection.npy").is_file()
    version = tmp_path / "store" / "indexes" / manifest.version
    assert len(manifest.shards) == 2
    assert not [*version.glob("*/projected.npy"), *version.glob("work/*"), *version.glob("building.json")]
    damaged = tmp_path / "cache" / "shelfmark-indexes" / manifest.version / "projection.npy"
    damaged.write_bytes(b"damaged")
    Searcher.open(store.uri)
    assert damaged.read_bytes() == (version / "projection.npy").read_bytes()
    vectors = searcher.vectors(np.arange(20))
    assert searcher.search(vectors, 1).rows[:, 0].tolist() == list(range(20))
