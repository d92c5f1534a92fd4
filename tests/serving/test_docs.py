"""The calls in README.md and docs/serving.md work as pasted, on the store they speak of: the demo's, small model."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.cli.main import main
from tests.support.serve_process import ServeProcess, serve_command

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENT = ROOT / "docs" / "serving.md"
TEXT = (ROOT / "README.md").read_text(encoding="utf-8") + DOCUMENT.read_text(encoding="utf-8")
CALLS = re.findall(r"^    ((?:python3 .*\| )?curl .*)$", TEXT, re.MULTILINE)
BASE = "http://127.0.0.1:8080"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the demo has run; of its catalog the first items, which are the same however many follow."""
    folder = tmp_path_factory.mktemp("documented")
    store, table = str(folder / "demo" / "store"), str(folder / "demo" / "catalog" / "catalog.csv")
    assert main(["sample-catalog", str(folder / "demo" / "catalog"), "--items", "14"]) == 0
    model = ["--backbone", "mobilenetv3small", "--weights", "random"]
    assert main(["embed", "--catalog", table, "--store", store, *model]) == 0
    assert main(["index", "--store", store]) == 0
    return folder


@pytest.fixture(scope="module")
def server(demo: Path) -> Iterator[ServeProcess]:
    with serve_command(str(demo / "demo" / "store")) as server:
        yield server


def call(server: ServeProcess, demo: Path, command: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    # The index of the document has a longer embedding than that of the small model.
    command = command.replace(BASE, f"http://127.0.0.1:{server.port}").replace("* 2048", f"* {dimension(server)}")
    line = f"set -o pipefail; {command} --fail-with-body -sS"
    return subprocess.run(["bash", "-c", line], cwd=demo, text=True, capture_output=True, check=False)


def dimension(server: ServeProcess) -> int:
    asked = ["curl", "-s", f"http://127.0.0.1:{server.port}/v1/index"]
    document = json.loads(subprocess.run(asked, text=True, capture_output=True, check=True).stdout)
    return int(document["encoder"]["embedding_dim"])


def test_the_document_has_calls() -> None:
    assert len(CALLS) >= 15
    assert {"/v1/search", "/similar", "/thumbnail", "/v1/reload", "/metrics"} <= {
        part
        for part in ("/v1/search", "/similar", "/thumbnail", "/v1/reload", "/metrics")
        if any(part in call for call in CALLS)
    }


@pytest.mark.parametrize("command", CALLS)
def test_call_works_as_pasted(server: ServeProcess, demo: Path, command: str) -> None:
    done = call(server, demo, command.split("   #", maxsplit=1)[0].rstrip())
    assert done.returncode == 0, done.stdout + done.stderr
    if "/v1/search" in command:
        answers = json.loads(done.stdout)["queries"]
        assert answers[0]["hits"] or "where" in command
    elif "thumbnail" in command:
        assert (demo / "shirt.jpg").read_bytes()[:3] == b"\xff\xd8\xff"
    elif "/metrics" not in command:
        assert json.loads(done.stdout)


def test_what_the_document_shows_of_an_error_is_what_is_said(server: ServeProcess, demo: Path) -> None:
    done = call(server, demo, f"curl -H 'Content-Type: application/json' -d '{{\"vector\": [1, 2]}}' {BASE}/v1/search")
    assert done.returncode != 0
    said = json.loads(done.stdout)
    assert said["detail"] == f"vector 0: expected {dimension(server)} numbers, found 2"
    shown = DOCUMENT.read_text(encoding="utf-8")
    assert said["detail"].replace(str(dimension(server)), "2048") in shown
    assert f'"title":"{said["title"]}"' in shown
