"""The DAG, as Airflow itself loads it, in an interpreter of its own: SHELFMARK_AIRFLOW_PYTHON."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.manifests import load

FOLDER = Path(__file__).resolve().parent.parent.parent / "deploy" / "airflow"

LOAD = """
import json, sys, types
try:
    from airflow.dag_processing.dagbag import DagBag
except ImportError:
    from airflow.models import DagBag
bag = DagBag(sys.argv[1], include_examples=False)
found = {"errors": bag.import_errors, "dags": {}}
for name, dag in bag.dags.items():
    (task,) = dag.tasks
    # A pod's description asks which cluster it is for; here is none.
    task.__dict__["hook"] = types.SimpleNamespace(is_in_cluster=False, get_namespace=lambda: "default")
    found["dags"][name] = {
        "max_active_runs": dag.max_active_runs, "catchup": dag.catchup, "params": dict(dag.params),
        "retries": task.retries, "type": type(task).__name__, "arguments": task.arguments, "image": task.image,
        "pod": task.build_pod_request_obj(None).to_dict()["spec"], "labels": dict(task.labels),
    }
print("\\n" + json.dumps(found, default=str))
"""

# The pod of a run, as the operator is given it, ends with a code; how does the task end?
FAIL = """
import sys
sys.path.insert(0, sys.argv[1])
from airflow.exceptions import AirflowException, AirflowFailException
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from kubernetes.client import models as k8s
from shelfmark_reindex import CONTAINER, ReindexOperator
operator = ReindexOperator(task_id="t", base_container_name=CONTAINER, on_finish_action="keep_pod")
for asks_the_cluster in ("is_istio_enabled", "patch_already_checked", "process_pod_deletion"):
    operator.__dict__[asks_the_cluster] = lambda *args, **kwargs: False
def ends(code):
    ended = k8s.V1ContainerState(terminated=k8s.V1ContainerStateTerminated(exit_code=code))
    status = k8s.V1ContainerStatus(
        name=CONTAINER, state=ended, image="i", image_id="i", ready=False, restart_count=0
    )
    pod = k8s.V1Pod(
        metadata=k8s.V1ObjectMeta(name="p", annotations={}),
        spec=k8s.V1PodSpec(containers=[k8s.V1Container(name=CONTAINER)]),
        status=k8s.V1PodStatus(phase="Succeeded" if code == 0 else "Failed", container_statuses=[status]),
    )
    try:
        operator.cleanup(pod, pod)
    except AirflowFailException:
        return "final"
    except AirflowException:
        return "again"
    return "done"
print("\\n" + " ".join(ends(code) for code in (0, 1, 2, 3, 137)))
"""


def run(code: str, home: Path) -> str:
    """What a program printed last, run where Airflow is installed, with a home of its own and no database."""
    python = os.environ.get("SHELFMARK_AIRFLOW_PYTHON")
    if not python:
        pytest.skip("needs an interpreter with Airflow: SHELFMARK_AIRFLOW_PYTHON is not set")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        [python, "-c", code, str(FOLDER)], capture_output=True, text=True, check=False, env=environment, cwd=home
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.rstrip().splitlines()[-1]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(LOAD, tmp_path_factory.mktemp("airflow")))
    assert found["errors"] == {}
    dag: dict[str, Any] = found["dags"]["shelfmark_reindex"]
    return dag


def test_airflow_loads_the_dag_with_one_run_at_a_time_and_no_backfill(loaded: dict[str, Any]) -> None:
    assert (loaded["max_active_runs"], loaded["catchup"], loaded["retries"]) == (1, False, 2)
    assert loaded["params"] == {"catalog": "", "store": ""}


def test_variables_are_templates_that_are_read_when_a_task_runs(loaded: dict[str, Any]) -> None:
    assert loaded["image"] == "{{ var.value.shelfmark_image }}"
    assert loaded["arguments"][:3] == [
        "reindex",
        "--catalog={{ params.catalog or var.value.shelfmark_catalog }}",
        "--store={{ params.store or var.value.shelfmark_store }}",
    ]


def test_pod_is_the_one_that_kubernetes_runs_by_itself(loaded: dict[str, Any]) -> None:
    pod = loaded["pod"]
    (container,) = pod["containers"]
    assert container["security_context"]["read_only_root_filesystem"] is True
    assert pod["security_context"]["run_as_user"] == 10001
    assert {mount["mount_path"] for mount in container["volume_mounts"]} == {"/tmp", "/var/cache/shelfmark"}
    assert container["env_from"][0]["secret_ref"]["name"] == "shelfmark-credentials"


def test_policy_of_the_network_finds_the_pod(loaded: dict[str, Any]) -> None:
    selector = load("network-policy/network-policy.yaml")["spec"]["podSelector"]["matchLabels"]
    assert selector.items() <= loaded["labels"].items()


def test_codes_2_and_3_are_final_and_others_are_tried_again(tmp_path: Path) -> None:
    assert run(FAIL, tmp_path) == "done again final final again"
