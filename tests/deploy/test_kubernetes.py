"""The manifests: against Kubernetes' own schemas, and for what the schemas cannot know."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path

import pytest
import yaml

from tests.deploy.manifests import FOLDER, ROOT, kustomize, load, validate

# Kubernetes has no schema of a PodMonitor, which is the Prometheus Operator's.
MANIFESTS = sorted(
    path
    for path in FOLDER.rglob("*.yaml")
    if path.name not in {"kustomization.yaml", "pod-monitor.yaml"} and ".patch" not in path.name
)


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


@pytest.mark.parametrize("overlay", ["base", "volume"])
def test_policy_of_the_network_finds_the_run_and_not_the_server(tmp_path: Path, overlay: str) -> None:
    lines = ["resources:", f"  - {os.path.relpath(FOLDER / overlay, tmp_path)}"]
    lines += ["components:", f"  - {os.path.relpath(FOLDER / 'network-policy', tmp_path)}"]
    (tmp_path / "kustomization.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    by_kind = {document["kind"]: document for document in kustomize(tmp_path)}
    validate(by_kind["NetworkPolicy"])
    selector = by_kind["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"]
    pod = by_kind["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]
    assert selector.items() <= pod.items()
    (server,) = load("serve/base/kustomization.yaml")["labels"]
    assert not selector.items() <= server["pairs"].items()


@pytest.mark.parametrize("policy", ["network-policy", "serve/network-policy"])
def test_policy_of_the_network_lets_out_names_and_public_https_only(policy: str) -> None:
    spec = load(f"{policy}/network-policy.yaml")["spec"]
    assert set(spec["policyTypes"]) == {"Ingress", "Egress"}
    names, world = spec["egress"]
    assert {(port["port"], port["protocol"]) for port in names["ports"]} == {(53, "UDP"), (53, "TCP")}
    assert world["ports"] == [{"port": 443, "protocol": "TCP"}]
    refused = [ipaddress.ip_network(inner) for peer in world["to"] for inner in peer["ipBlock"]["except"]]
    for address in ("169.254.169.254", "fd00:ec2::254", "fe80::1", "10.0.0.1", "172.31.0.1", "192.168.1.1"):
        assert any(ipaddress.ip_address(address) in network for network in refused), address


def test_nothing_reaches_the_run() -> None:
    assert "ingress" not in load("network-policy/network-policy.yaml")["spec"]
