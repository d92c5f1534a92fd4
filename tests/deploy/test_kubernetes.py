"""The manifests: against Kubernetes' own schemas, and for what the schemas cannot know."""

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
BESIDE_PYTHON = Path(sys.executable).parent
FOLDER = ROOT / "deploy" / "kubernetes"
MANIFESTS = sorted(
    path for path in FOLDER.rglob("*.yaml") if path.name != "kustomization.yaml" and ".patch" not in path.name
)
# The oldest Kubernetes whose CronJobs have all that is used here.
OLDEST_KUBERNETES = "1.31"


def load(path: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((FOLDER / path).read_text(encoding="utf-8"))
    return document


def kustomize(overlay: str) -> list[dict[str, Any]]:
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
    if done.returncode and "kustomize" not in done.stderr:
        pytest.skip(f"{command[0]} does not run here: {done.stderr.strip().splitlines()[-1:]}")
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def validate(document: dict[str, Any]) -> None:
    schemas = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate, which has the schemas")
    schemas.validate(document, OLDEST_KUBERNETES, strict=True)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: str(path.relative_to(FOLDER)))
def test_manifest_fits_the_schema(path: Path) -> None:
    documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    assert documents
    for document in documents:
        validate(document)


def test_schema_sees_a_misspelt_field() -> None:
    schemas = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate, which has the schemas")
    document = load("base/cronjob.yaml")
    document["spec"]["concurencyPolicy"] = document["spec"].pop("concurrencyPolicy")
    with pytest.raises(schemas.ValidationError):
        validate(document)


@pytest.mark.parametrize("overlay", ["base", "volume"])
def test_overlay_builds_and_fits_the_schemas(overlay: str) -> None:
    documents = kustomize(overlay)
    assert {"ServiceAccount", "ConfigMap", "CronJob"} <= {document["kind"] for document in documents}
    for document in documents:
        validate(document)


def test_volume_overlay_mounts_the_folder_that_its_store_lies_in() -> None:
    by_kind = {document["kind"]: document for document in kustomize("volume")}
    pod = by_kind["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    assert set(mounts) == {"scratch", "cache", "store"} == {volume["name"] for volume in pod["volumes"]}
    assert by_kind["ConfigMap"]["data"]["SHELFMARK_STORE"].startswith(mounts["store"] + "/")
    claims = [volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"] if volume["name"] == "store"]
    assert claims == [by_kind["PersistentVolumeClaim"]["metadata"]["name"]]


def test_codes_2_and_3_are_final_and_1_is_not() -> None:
    job = load("base/cronjob.yaml")["spec"]["jobTemplate"]["spec"]
    codes, disruption = job["podFailurePolicy"]["rules"]
    assert codes["action"] == "FailJob"
    assert (codes["onExitCodes"]["operator"], codes["onExitCodes"]["values"]) == ("In", [2, 3])
    assert codes["onExitCodes"]["containerName"] in {c["name"] for c in job["template"]["spec"]["containers"]}
    assert disruption["action"] == "Ignore"
    assert job["backoffLimit"] >= 1
    assert job["template"]["spec"]["restartPolicy"] == "Never"  # podFailurePolicy takes nothing else


def test_names_that_refer_to_each_other_agree() -> None:
    pod = load("base/cronjob.yaml")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["serviceAccountName"] == load("base/service-account.yaml")["metadata"]["name"]
    settings, secret = container["envFrom"]
    assert settings["configMapRef"]["name"] == load("base/settings.yaml")["metadata"]["name"]
    assert secret["secretRef"]["name"] == load("base/credentials.example.yaml")["metadata"]["name"]
    given = set(load("base/settings.yaml")["data"])
    assert {"SHELFMARK_CATALOG", "SHELFMARK_STORE"} <= given
    assert {argument.split("$(")[1].rstrip(")") for argument in container["args"] if "$(" in argument} <= given
    assert [image["name"] for image in load("base/kustomization.yaml")["images"]] == [container["image"]]


def test_pod_writes_only_where_the_image_expects_it() -> None:
    pod = load("base/cronjob.yaml")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    recipe = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/tmp", "/var/cache/shelfmark"}
    assert "HOME=/var/cache/shelfmark " in recipe
    assert f"USER {pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}\n" in recipe
