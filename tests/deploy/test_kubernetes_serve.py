"""The server's manifests: that they build, alone and together, and that what refers to each other agrees."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.manifests import FOLDER, kustomize, load, validate

COMPONENTS = ("autoscaler", "network-policy", "prometheus")


def pod_of(deployment: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return pod


@pytest.fixture(scope="module")
def deployment() -> dict[str, Any]:
    return load("serve/base/deployment.yaml")


@pytest.fixture(scope="module")
def container(deployment: dict[str, Any]) -> dict[str, Any]:
    (only,) = pod_of(deployment)["containers"]
    found: dict[str, Any] = only
    return found


def argument(container: dict[str, Any], name: str) -> str:
    (value,) = [word.split("=", 1)[1] for word in container["args"] if word.startswith(f"--{name}=")]
    return str(value)


def build_all(folder: Path) -> dict[str, dict[str, Any]]:
    """The nightly run and the server with every component, as an overlay of somebody's own; documents by kind."""

    def path(name: str) -> str:
        return os.path.relpath(FOLDER / name, folder)

    lines = ["resources:", f"  - {path('base')}", f"  - {path('serve/base')}", "components:"]
    lines += [f"  - {path(f'serve/{name}')}" for name in COMPONENTS]
    (folder / "kustomization.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    documents = kustomize(folder)
    by_kind = {document["kind"]: document for document in documents}
    assert len(by_kind) == len(documents)
    return by_kind


@pytest.mark.parametrize("overlay", ["serve/base", "serve/volume"])
def test_overlay_builds_and_fits_the_schemas(overlay: str) -> None:
    documents = kustomize(overlay)
    assert {"Deployment", "Service", "PodDisruptionBudget"} <= {document["kind"] for document in documents}
    for document in documents:
        validate(document)


def test_run_server_and_every_component_build_together(tmp_path: Path) -> None:
    by_kind = build_all(tmp_path)
    for kind, document in by_kind.items():
        if kind != "PodMonitor":
            validate(document)
    target = by_kind["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", by_kind["Deployment"]["metadata"]["name"])
    assert "replicas" not in by_kind["Deployment"]["spec"]
    run = by_kind["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    assert pod_of(by_kind["Deployment"])["containers"][0]["image"] == run["image"]


def test_every_selector_finds_the_servers_and_not_the_nightly_run(tmp_path: Path) -> None:
    by_kind = build_all(tmp_path)
    server = by_kind["Deployment"]["spec"]["template"]["metadata"]["labels"]
    run = by_kind["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]
    selectors = [by_kind["Service"]["spec"]["selector"], by_kind["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"]]
    selectors += [
        by_kind[kind]["spec"]["selector"]["matchLabels"] for kind in ("Deployment", "PodDisruptionBudget", "PodMonitor")
    ]
    spread = pod_of(by_kind["Deployment"])["topologySpreadConstraints"]
    selectors += [constraint["labelSelector"]["matchLabels"] for constraint in spread]
    assert len(selectors) == 6
    for selector in selectors:
        assert selector.items() <= server.items()
        assert not selector.items() <= run.items()


def test_a_pod_that_ends_has_time_to_drain_and_to_finish(deployment: dict[str, Any], container: dict[str, Any]) -> None:
    pause_s = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    probe = container["readinessProbe"]
    assert pause_s >= probe["periodSeconds"]
    assert pod_of(deployment)["terminationGracePeriodSeconds"] > pause_s + int(argument(container, "grace"))


def test_a_rollout_adds_a_pod_before_it_takes_one(deployment: dict[str, Any], container: dict[str, Any]) -> None:
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    startup = container["startupProbe"]
    assert deployment["spec"]["progressDeadlineSeconds"] > startup["periodSeconds"] * startup["failureThreshold"]


def test_probes_and_monitor_ask_the_port_that_the_server_listens_on(container: dict[str, Any]) -> None:
    (port,) = container["ports"]
    assert (port["name"], str(port["containerPort"])) == ("http", argument(container, "port"))
    assert argument(container, "host") == "0.0.0.0"
    paths = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")}
    assert paths == {"startup": "/readyz", "readiness": "/readyz", "liveness": "/healthz"}
    ports = [container[f"{name}Probe"]["httpGet"]["port"] for name in paths]
    ports += [port["targetPort"] for port in load("serve/base/service.yaml")["spec"]["ports"]]
    ports += [endpoint["port"] for endpoint in load("serve/prometheus/pod-monitor.yaml")["spec"]["podMetricsEndpoints"]]
    (ingress,) = load("serve/network-policy/network-policy.yaml")["spec"]["ingress"]
    ports += [port["port"] for port in ingress["ports"]]
    assert set(ports) == {"http"}


def test_keys_are_read_from_where_the_secret_is_mounted(deployment: dict[str, Any], container: dict[str, Any]) -> None:
    example = load("serve/base/api-keys.example.yaml")
    (secret,) = [volume["secret"] for volume in pod_of(deployment)["volumes"] if "secret" in volume]
    (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "keys"]
    assert secret["secretName"] == example["metadata"]["name"]
    assert "optional" not in secret  # a server that was meant to ask for keys must not come up open
    (item,) = secret["items"]
    assert item["key"] in example["stringData"]
    assert argument(container, "api_keys") == f"{mount['mountPath']}/{item['path']}"
    assert mount["readOnly"] is True


def test_prometheus_sends_a_key_that_the_server_takes() -> None:
    example = load("serve/base/api-keys.example.yaml")
    (endpoint,) = load("serve/prometheus/pod-monitor.yaml")["spec"]["podMetricsEndpoints"]
    credentials = endpoint["authorization"]["credentials"]
    assert endpoint["path"] == "/metrics"
    assert credentials["name"] == example["metadata"]["name"]
    assert example["stringData"][credentials["key"]] in example["stringData"]["api_keys"].splitlines()


def test_server_takes_the_settings_of_the_nightly_run(deployment: dict[str, Any], container: dict[str, Any]) -> None:
    run = load("base/cronjob.yaml")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert container["envFrom"] == run["containers"][0]["envFrom"]
    assert pod_of(deployment)["serviceAccountName"] == run["serviceAccountName"]
    assert {word.split("$(")[1].rstrip(")") for word in container["args"] if "$(" in word} == {"SHELFMARK_STORE"}
    assert load("serve/base/kustomization.yaml")["images"] == load("base/kustomization.yaml")["images"]


def test_server_is_confined_as_the_nightly_run_is(deployment: dict[str, Any], container: dict[str, Any]) -> None:
    run = load("base/cronjob.yaml")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert pod_of(deployment)["securityContext"] == run["securityContext"]
    assert container["securityContext"] == run["containers"][0]["securityContext"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod_of(deployment)["automountServiceAccountToken"] is False
    writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert writable == {"/tmp", "/var/cache/shelfmark"}


def test_pod_gets_whole_processors_and_all_the_memory_it_asks_for(container: dict[str, Any]) -> None:
    """Else the kubelet's static CPU policy leaves the process every processor of the node to count threads by."""
    requests, limits = container["resources"]["requests"], container["resources"]["limits"]
    assert {name: requests[name] for name in ("cpu", "memory")} == {name: limits[name] for name in ("cpu", "memory")}
    assert requests["cpu"].isdigit()


def test_volume_overlay_reads_the_store_that_the_run_writes() -> None:
    by_kind = {document["kind"]: document for document in kustomize("serve/volume")}
    pod = pod_of(by_kind["Deployment"])
    (mount,) = [mount for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "store"]
    assert mount["readOnly"] is True
    assert by_kind["ConfigMap"]["data"]["SHELFMARK_STORE"].startswith(mount["mountPath"] + "/")
    (claim,) = [volume["persistentVolumeClaim"] for volume in pod["volumes"] if volume["name"] == "store"]
    assert claim["claimName"] == by_kind["PersistentVolumeClaim"]["metadata"]["name"]
    assert by_kind["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteMany"]
    assert {volume["name"] for volume in pod["volumes"]} == {"keys", "scratch", "cache", "store"}
