"""The Flex Template: its program, its metadata and the script that builds it."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from samples.catalog import draw_catalog

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "deploy" / "dataflow"
# As little as a picture can be for ResNet50, with weights that need no download.
SMALL = ["--weights=random:0", "--image_size=32", "--precision=float32", "--batch_size=4"]


def run_template(*flags: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(FOLDER / "embed_template.py"), *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def manifests(store: Path) -> list[Path]:
    return sorted(store.glob("embeddings/*/manifest.json"))


@pytest.mark.slow
def test_template_embeds_a_catalog_where_no_job_is_asked_for(tmp_path: Path) -> None:
    catalog = draw_catalog(tmp_path / "catalog", items=2, views=2, seed=0)
    store = tmp_path / "store"
    done = run_template(f"--catalog={catalog}", f"--store={store}", "--runner=FnApiRunner", *SMALL)
    assert done.returncode == 0, done.stderr
    (manifest,) = manifests(store)
    assert json.loads(manifest.read_text(encoding="utf-8"))["counts"]["embedded"] == 4


@pytest.mark.parametrize(("written", "code"), [(True, 0), (False, 1)])
def test_template_succeeds_when_the_graph_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bool, code: int
) -> None:
    """With a launcher's --template_location `embed` ends with 1, as no job has run; the graph is what counts."""
    specification = importlib.util.spec_from_file_location("embed_template", FOLDER / "embed_template.py")
    assert specification is not None
    assert specification.loader is not None
    template = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(template)
    graph = tmp_path / "job_object"

    def embed(command: list[str], *, check: bool) -> subprocess.CompletedProcess[str]:
        flags = ["--trust=none", "--store=gs://store", f"--template_location={graph}"]  # the user's come last, and win
        assert command[1:] == ["-m", "pipelines.cli.main", "embed", *flags]
        assert not check
        if written:
            graph.write_text("{}", encoding="utf-8")
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(subprocess, "run", embed)
    assert template.main(["--store=gs://store", f"--template_location={graph}"]) == code


def test_template_ends_with_the_code_of_embed(tmp_path: Path) -> None:
    done = run_template(f"--catalog={tmp_path / 'missing.csv'}", f"--store={tmp_path / 'store'}")
    assert done.returncode == 2
    assert "missing.csv" in done.stderr


def test_gcloud_takes_the_metadata(tmp_path: Path) -> None:
    if shutil.which("gcloud") is None:
        pytest.skip("needs gcloud, which is not on PATH")
    command = ["gcloud", "dataflow", "flex-template", "build", "gs://example/embed.json", "--image=example.com/image:1"]
    command += ["--sdk-language=PYTHON", f"--metadata-file={FOLDER / 'metadata.json'}", "--print-only"]
    environment = {**os.environ, "CLOUDSDK_CONFIG": str(tmp_path), "CLOUDSDK_CORE_PROJECT": "example"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    text = done.stdout
    specification = json.loads("\n".join(line.strip() for line in text.splitlines() if not line.startswith("|")))
    assert specification["metadata"] == json.loads((FOLDER / "metadata.json").read_text(encoding="utf-8"))


DIGEST = f"sha256:{'0123456789abcdef' * 4}"
BEAM_TAG = "apache/beam_python3.11_sdk:2.77.0"
LAUNCHER_TAG = "gcr.io/dataflow-templates-base/python311-template-launcher-base:20260122_RC00"
BEAM, LAUNCHER = f"{BEAM_TAG}@{DIGEST}", f"{LAUNCHER_TAG}@{DIGEST}"


def record_calls(folder: Path) -> Path:
    """Puts programs named docker and gcloud into a folder, which write down their calls; docker knows a digest."""
    calls = folder / "calls"
    for name in ("docker", "gcloud"):
        program = folder / name
        program.write_text(
            f'#!/bin/sh\necho "{name} $*" >>"{calls}"\n[ "$1" = buildx ] && echo {DIGEST}\nexit 0\n', encoding="utf-8"
        )
        program.chmod(0o755)
    return calls


def build(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", **variables}
    command = [str(FOLDER / "build.sh"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=folder)


def test_script_builds_the_image_on_the_others_and_pushes_it_before_the_template_names_it(tmp_path: Path) -> None:
    calls = record_calls(tmp_path)
    done = build(tmp_path, "example.com/embed:1", "gs://example/embed.json", LAUNCHER_TAG="20260122_RC00")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"BEAM_IMAGE={BEAM}", f"LAUNCHER_IMAGE={LAUNCHER}"]
    looked_up = "docker buildx imagetools inspect {} --format {{{{.Manifest.Digest}}}}"
    assert calls.read_text(encoding="utf-8").splitlines() == [
        looked_up.format(BEAM_TAG),
        looked_up.format(LAUNCHER_TAG),
        "docker build -f deploy/Dockerfile --build-arg EXTRAS=gcp -t example.com/embed:1-base .",
        "docker build -f deploy/dataflow/Dockerfile --build-arg SHELFMARK_IMAGE=example.com/embed:1-base "
        f"--build-arg BEAM_IMAGE={BEAM} --build-arg LAUNCHER_IMAGE={LAUNCHER} -t example.com/embed:1 .",
        "docker push example.com/embed:1",
        "gcloud dataflow flex-template build gs://example/embed.json --image example.com/embed:1 "
        "--sdk-language PYTHON --metadata-file deploy/dataflow/metadata.json",
    ]


def test_script_repeats_a_build_from_the_images_of_an_earlier_one(tmp_path: Path) -> None:
    calls = record_calls(tmp_path)
    images = {"BEAM_IMAGE": BEAM, "LAUNCHER_IMAGE": LAUNCHER}
    done = build(tmp_path, "example.com/embed:1", "gs://example/embed.json", **images)
    assert done.returncode == 0, done.stderr
    lines = calls.read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if "inspect" in line]
    assert f"--build-arg BEAM_IMAGE={BEAM} --build-arg LAUNCHER_IMAGE={LAUNCHER} " in lines[1]


@pytest.mark.parametrize("arguments", [[], ["example.com/embed:1"], ["example.com/embed:1", "/srv/embed.json"]])
def test_script_refuses_what_it_cannot_build(tmp_path: Path, arguments: list[str]) -> None:
    calls = record_calls(tmp_path)
    done = build(tmp_path, *arguments, LAUNCHER_TAG="20260122_RC00")
    assert done.returncode == 2
    assert "expected an image's name and a gs:// path" in done.stderr
    assert not calls.exists()


@pytest.mark.parametrize(
    "variables",
    [{}, {"LAUNCHER_TAG": "latest"}, {"LAUNCHER_IMAGE": LAUNCHER_TAG, "BEAM_IMAGE": BEAM}],
    ids=["no tag", "latest", "no digest"],
)
def test_script_refuses_a_launcher_that_may_move(tmp_path: Path, variables: dict[str, str]) -> None:
    calls = record_calls(tmp_path)
    done = build(tmp_path, "example.com/embed:1", "gs://example/embed.json", **variables)
    assert done.returncode == 2
    assert "expected LAUNCHER_TAG" in done.stderr or "expected an image by digest" in done.stderr
    assert not calls.exists()
