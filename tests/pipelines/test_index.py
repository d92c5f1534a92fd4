"""`shelfmark index` and the commands about versions as a user types them, and its shards on Beam's runners."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.vectors import write_snapshot
from index_builder.build.builder import build_index
from index_builder.build.request import BuildRequest
from index_builder.search.searcher import Searcher
from pipelines.beam_flags import parse_beam_flags
from pipelines.cli.flag_types import recall_target, size_bytes
from pipelines.index_shards import shards_on_beam
from pipelines.processor import choose_blas_kernels
from store.location import Store
from store.publication import current_version
from tests.index_builder.conftest import use_trees
from tests.support.cli import shelfmark


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("index") / "store"
    write_snapshot(Store(str(folder)), 400, seed=1, dimensions=48)
    return folder


def test_from_snapshot_to_check_to_rollback_to_prune(store: Path, tmp_path: Path) -> None:
    copy = tmp_path / "store"
    shutil.copytree(store, copy)
    built = [shelfmark("index", "--store", copy, "--format", "json") for _ in range(2)]
    assert [done.returncode for done in built] == [0, 0], built[0].stderr
    first, second = (json.loads(done.stdout) for done in built)
    assert first["recall"]["measured"] == 1
    assert "plan: 400 vectors of 48 dimensions" in built[0].stderr
    checked = shelfmark("index", "--store", copy, "--check", "--format", "json")
    assert json.loads(checked.stdout)["measured"] == 1
    listed = json.loads(shelfmark("versions", "--store", copy, "--format", "json").stdout)
    assert {one["version"]: one["state"] for one in listed["versions"]} == {
        first["version"]: "kept",
        second["version"]: "published",
    }
    assert shelfmark("rollback", "--store", copy, "--to", first["version"]).returncode == 0
    assert current_version(Store(str(copy))) == first["version"]
    pruned = shelfmark("prune", "--store", copy, "--keep", "1")
    assert pruned.returncode == 0, pruned.stderr
    assert current_version(Store(str(copy))) == first["version"]
    page = (copy / "indexes" / first["version"] / "report.html").read_text(encoding="utf-8")
    assert "http://" not in page.replace("http://www.w3.org", "")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["index", "--store", "{store}", "--target_recall", "1.5"], 2, "above 0 and at most 1, found '1.5'"),
        (["index", "--store", "{store}", "--memory_limit", "lots"], 2, "such as 500MB or 6GiB, found 'lots'"),
        (["index", "--store", "{store}", "--memory_limit", "1MB"], 2, "--memory_limit: expected at least"),
        (["index", "--store", "{store}", "--snapshot", "nosuch"], 2, "no snapshot nosuch"),
        (["index", "--store", "{store}", "--k", "0"], 2, "a whole number from 1, found '0'"),
        (["index", "--store", "{store}", "--runner", "X"], 2, "unknown flag --runner"),
        (["index", "--store", "{store}", "--version", "x"], 2, "--version goes with --check"),
        (["index", "--store", "{empty}"], 2, "no snapshot in"),
        (["index", "--store", "{empty}", "--check"], 2, "no index is published"),
        (["search", "--store", "{empty}", "--item", "x"], 2, "no index is published"),
        (["rollback", "--store", "{empty}"], 2, ""),
    ],
)
def test_a_mistake_is_one_line(store: Path, tmp_path: Path, arguments: list[str], code: int, says: str) -> None:
    done = shelfmark(*(text.format(store=store, empty=tmp_path / "empty") for text in arguments))
    assert (done.returncode, done.stdout) == (code, "")
    assert says in done.stderr
    assert done.stderr.startswith(("shelfmark: ", "plan: "))
    assert "Traceback" not in done.stderr


def built_on_beam(folder: Path, patch: pytest.MonkeyPatch, flags: list[str]) -> None:
    store = Store(str(folder / "store"))
    write_snapshot(store, 4_000, seed=1, dimensions=96)
    use_trees(patch, 1_500, queries=100)
    run_shards = shards_on_beam(parse_beam_flags(flags))
    manifest = build_index(store, BuildRequest(dimensions=48, target_recall=0.9), run_shards=run_shards)
    assert len(manifest.shards) == 3
    searcher = Searcher.open(store.uri, verify=True)
    rows = np.arange(0, 4_000, 100)
    assert (searcher.search(searcher.vectors(rows), 1).rows[:, 0] == rows).mean() > 0.9


@pytest.mark.parametrize("flags", [[], ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]])
def test_shards_on_beam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str]) -> None:
    built_on_beam(tmp_path, monkeypatch, flags)


@pytest.mark.prism
def test_shards_on_prism(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prism = f"--prism_location={os.environ['SHELFMARK_PRISM']}"
    own = "--experiments=disable_prism_server_singleton"  # another test's server knows no location
    built_on_beam(tmp_path, monkeypatch, ["--runner=PrismRunner", prism, own])


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (size_bytes, "6GiB", 6 << 30),
        (size_bytes, "500MB", 500_000_000),
        (size_bytes, "1.5g", 1_500_000_000),
        (size_bytes, "4096", 4096),
        (recall_target, "1", 1.0),
    ],
)
def test_sizes_and_targets(parse: Callable[[str], Any], text: str, value: float) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("cpuinfo", "kernels"),
    [
        ("vendor_id : GenuineIntel\nflags : avx2 fma avx512f avx512dq avx512bw avx512vl avx512cd\n", "SkylakeX"),
        ("vendor_id : GenuineIntel\nflags : sse2 avx2 fma\n", "Haswell"),
        ("vendor_id : GenuineIntel\nflags : sse2\n", None),
        ("vendor_id : AuthenticAMD\nflags : avx2 fma\n", None),
    ],
)
def test_kernels_are_named_for_processors_that_openblas_does_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpuinfo: str, kernels: str | None
) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "")  # so that what is set below is taken back in any case
    monkeypatch.delenv("OPENBLAS_CORETYPE")
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    choose_blas_kernels(tmp_path)
    assert os.environ.get("OPENBLAS_CORETYPE") == kernels
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Zen")
    choose_blas_kernels(tmp_path)
    assert os.environ["OPENBLAS_CORETYPE"] == "Zen"
