"""The command as a user types it, with a real (small, untrained) model: what works in a process of its own, mistakes in
this one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from samples.catalog import draw_catalog
from store.location import Store
from store.snapshot import list_snapshots
from tests.support import cli
from tests.support.http_server import PictureServer
from transforms.progress import ProgressFile

SMALL_MODEL = [
    "--backbone",
    "mobilenetv3small",
    "--image_size",
    "64",
    "--weights",
    "random:3",
    "--precision",
    "float32",
]
ITEMS, VIEWS = 300, 2


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 pictures: two shards."""
    return draw_catalog(tmp_path_factory.mktemp("sample"), items=ITEMS, views=VIEWS, seed=2)


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "pipelines.cli.main", *map(str, arguments)]


def shelfmark(*arguments: str | Path, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, check=False, timeout=300, **more)


def embeddings(document: dict[str, Any]) -> dict[str, np.ndarray]:
    folder = Path(document["path"])
    tables = [pq.read_table(folder / file["path"]) for file in document["files"] if file["path"].startswith("part-")]
    return {row["image_id"]: np.array(row["embedding"]) for table in tables for row in table.to_pylist()}


@pytest.fixture(scope="module")
def reference(catalog: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The snapshot of a plain local run."""
    store = tmp_path_factory.mktemp("reference")
    done = shelfmark("embed", "--catalog", catalog, "--store", store, *SMALL_MODEL, "--format", "json")
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    assert "untrained" in done.stderr
    assert len(done.stderr.splitlines()) == 1, f"library noise on the console: {done.stderr}"
    return document


def test_a_run_embeds_every_picture(reference):
    assert reference["counts"] == {"catalog_rows": 600, "embedded": 600, "reused": 0, "rejected": 0}
    assert reference["encoder"]["backbone"] == "MobileNetV3Small"
    assert len(reference["files"]) == 2
    assert len(embeddings(reference)) == 600


@pytest.mark.parametrize(
    "runner",
    [
        pytest.param(["--direct_running_mode=multi_processing", "--direct_num_workers=2"], id="multi_processing"),
        pytest.param(["--runner=PrismRunner"], id="prism", marks=pytest.mark.prism),
    ],
)
def test_every_runner_gives_the_same_snapshot(catalog, reference, tmp_path, runner):
    if "--runner=PrismRunner" in runner:
        runner = [*runner, f"--prism_location={os.environ['SHELFMARK_PRISM']}"]
    done = shelfmark("embed", "--catalog", catalog, "--store", tmp_path, *SMALL_MODEL, "--format", "json", *runner)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["encoder"] == reference["encoder"]
    expected, found = embeddings(reference), embeddings(document)
    assert found.keys() == expected.keys()
    for image_id, vector in found.items():
        np.testing.assert_allclose(vector, expected[image_id], atol=1e-3)


@pytest.mark.slow
def test_killed_at_any_moment_it_leaves_no_snapshot_and_the_next_run_succeeds(catalog, tmp_path):
    store, scratch = tmp_path / "store", tmp_path / "scratch"
    scratch.mkdir()
    for pictures in (0, 1, 300):
        run = command("embed", "--catalog", catalog, "--store", store, *SMALL_MODEL)
        with subprocess.Popen(run, env={**os.environ, "TMPDIR": str(scratch)}, stderr=subprocess.PIPE) as process:
            _wait_for(scratch, pictures, process)
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        assert list_snapshots(Store(str(store))) == []
        for path in scratch.glob("shelfmark-*/progress"):
            path.unlink()
    done = shelfmark("embed", "--catalog", catalog, "--store", store, *SMALL_MODEL)
    assert done.returncode == 0, done.stderr
    assert len(list_snapshots(Store(str(store)))) == 1


def _wait_for(scratch: Path, pictures: int, process: subprocess.Popen[bytes]) -> None:
    """Until the run has announced its total and embedded so many pictures."""
    while process.poll() is None:
        for path in scratch.glob("shelfmark-*/progress"):
            progress = ProgressFile(str(path)).read()
            if progress.total and progress.embedded >= pictures:
                return
        time.sleep(0.02)
    raise AssertionError(f"the run ended before {pictures} pictures")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["embed", "--store", "S"], 2, "--catalog"),
        (["embed", "--catalog", "none.csv", "--store", "S"], 2, "no such file"),
        (["embed", "--catalog", "none.csv", "--store", "S", "--catalogue", "x"], 2, "unknown flag --catalogue"),
        (["embed", "--catalog", "none.csv", "--store", "S", "--batch_size", "0"], 2, "a whole number from 1"),
        (["embed", "--catalog", "{catalog}", "--store", "/proc/none"], 2, "can be written"),
        (["embed", "--catalog", "{catalog}", "--store", "{store}", "--backbone", "resnet51"], 2, "resnet51"),
        (["embed", "--catalog", "{catalog}", "--store", "{store}", "--weights", "none.h5"], 2, "none.h5"),
        (["embed", "--catalog", "{catalog}", "--store", "{store}", "--min_ram", "lots"], 2, "lots"),
        (["doctor", "--catalog", "x"], 2, "unknown flag --catalog"),
        (["frobnicate"], 2, "frobnicate"),
    ],
)
def test_a_mistake_is_one_line(catalog, tmp_path, arguments, code, says):
    arguments = [text.format(catalog=catalog, store=tmp_path) for text in arguments]
    done = cli.shelfmark(*arguments)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


@pytest.mark.slow
def test_the_demo_goes_from_a_catalog_to_a_search_and_owns_up_to_untrained_weights(tmp_path):
    done = shelfmark("demo", tmp_path / "demo", "--items", "4", "--views", "2", "--format", "json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["embed"]["counts"]["embedded"] == 8
    assert document["index"]["recall"]["measured"] == 1
    (query,) = document["search"]["queries"]
    assert query["hits"][0]["score"] > 0.999
    assert Path(query["query"]).name in query["hits"][0]["image_uri"]
    assert 0 <= document["evaluate"]["precision_at_1"]["value"] <= 1
    assert "data:image/jpeg" in (tmp_path / "demo" / "search.html").read_text(encoding="utf-8")
    untrained = document["embed"]["encoder"]["weights"] != "imagenet"
    assert untrained == ("UNTRAINED" in done.stderr), "only where ImageNet's weights cannot be had"


def test_a_gate_refuses_with_exit_3(tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "a.jpg").write_bytes(b"<html>")
    done = cli.shelfmark("embed", "--catalog", pictures, "--store", tmp_path / "store", *SMALL_MODEL)
    assert done.returncode == 3
    assert "1 of 1 rows were rejected (not_an_image 1)" in done.stderr
    assert done.stdout == ""


def test_a_table_behind_http_is_read_and_a_missing_one_is_one_line(tmp_path):
    with PictureServer() as server:
        missing = cli.shelfmark("embed", "--catalog", server.url("/status/404/catalog.csv"), "--store", tmp_path)
        page = cli.shelfmark("embed", "--catalog", server.url("/ok/1.jpg"), "--store", tmp_path)
    assert missing.returncode == page.returncode == 2
    assert "404" in missing.stderr
    assert "expected a .csv, .jsonl or .parquet table behind http(s), found '1.jpg'" in page.stderr
    assert len((missing.stderr + page.stderr).splitlines()) == 2
