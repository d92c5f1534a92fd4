"""Reading, building and checking the Kubernetes manifests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "deploy" / "kubernetes"
BESIDE_PYTHON = Path(sys.executable).parent
# The oldest Kubernetes whose CronJobs have all that is used here.
OLDEST_KUBERNETES = "1.31"


def load(path: str) -> dict[str, Any]:
    """A manifest, by its path below deploy/kubernetes."""
    document: dict[str, Any] = yaml.safe_load((FOLDER / path).read_text(encoding="utf-8"))
    return document


def kustomize(overlay: str | Path) -> list[dict[str, Any]]:
    """What an overlay builds: one below deploy/kubernetes, or one anywhere."""
    own = os.environ.get("SHELFMARK_KUSTOMIZE") or shutil.which(
        "kustomize", path=f"{BESIDE_PYTHON}:{os.environ['PATH']}"
    )
    if own:
        command = [own, "build"]
    elif shutil.which("kubectl"):
        command = ["kubectl", "kustomize"]
    else:
        pytest.skip("needs kubectl or kustomize, neither of which is on PATH")
    done = subprocess.run([*command, str(FOLDER / overlay)], capture_output=True, text=True, check=False)
    if done.returncode and not own and "kustomize" not in done.stderr:
        pytest.skip(f"{command[0]} does not run here: {done.stderr.strip().splitlines()[-1:]}")
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def validate(document: dict[str, Any]) -> None:
    """Holds a manifest against Kubernetes' own schema."""
    schemas = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate, which has the schemas")
    schemas.validate(document, OLDEST_KUBERNETES, strict=True)
