"""Airflow (2.10 or later): `shelfmark reindex` every night, in a pod of its own.

A pod rather than BashOperator, because Shelfmark's pinned set and Airflow's constraints name different versions of the
same packages (protobuf, grpcio), so the two do not fit into one environment; and a worker's memory is not the place for
an index. Needs apache-airflow-providers-cncf-kubernetes, the image of deploy/Dockerfile, and these Airflow Variables:

    shelfmark_image      registry.example.com/shelfmark:0.1.0
    shelfmark_catalog    s3://example-catalog/products.parquet
    shelfmark_store      s3://example-store/shelfmark

Keys of an object store are read from the Secret `shelfmark-credentials` where there is one. Variables are read when a
task is rendered, never when this file is parsed.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pendulum
from airflow.exceptions import AirflowException, AirflowFailException
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from kubernetes.client import models as k8s

try:
    from airflow.sdk import DAG, Param
except ImportError:  # Airflow 2
    from airflow.models import DAG
    from airflow.models.param import Param

# 2: a mistake in the flags, the catalog or the store; 3: a gate refused. The next try would say the same.
FINAL_EXIT_CODES = frozenset({2, 3})
CONTAINER = "reindex"
USER_ID = 10001  # the image's


class ReindexOperator(KubernetesPodOperator):
    """Runs the pod, and tries again only where that can help."""

    def cleanup(self, pod: k8s.V1Pod, remote_pod: k8s.V1Pod, *args: Any, **kwargs: Any) -> None:
        """Removes the pod.

        Raises:
            AirflowFailException: The run ended with a code that a retry would only repeat.
            AirflowException: It failed otherwise.
        """
        try:
            super().cleanup(pod, remote_pod, *args, **kwargs)
        except AirflowException as error:
            code = exit_code(remote_pod)
            if code not in FINAL_EXIT_CODES:
                raise
            raise AirflowFailException(f"shelfmark reindex ended with exit code {code}; its log says why") from error


def exit_code(pod: k8s.V1Pod) -> int | None:
    """What the container ended with; None where it never ran to an end."""
    statuses = (pod.status and pod.status.container_statuses) or []
    ended = [status.state.terminated for status in statuses if status.name == CONTAINER and status.state]
    return ended[0].exit_code if ended and ended[0] else None


with DAG(
    dag_id="shelfmark_reindex",
    description="Brings the Shelfmark store up to date with its catalog",
    schedule="15 3 * * *",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,  # a run brings the store to the catalog of now; there is nothing to catch up
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=14),  # all tries together
    params={
        "catalog": Param("", type="string", description="for this run only, instead of the Variable's"),
        "store": Param("", type="string", description="for this run only, instead of the Variable's"),
    },
    tags=["shelfmark"],
):
    ReindexOperator(
        task_id="reindex",
        name="shelfmark-reindex",
        image="{{ var.value.shelfmark_image }}",
        arguments=[
            "reindex",
            "--catalog={{ params.catalog or var.value.shelfmark_catalog }}",
            "--store={{ params.store or var.value.shelfmark_store }}",
            # Longer than the life of a lease, so that a retry outlives the lease of the pod that died.
            "--wait=600",
            "--memory_limit=6GiB",
            "--format=json",
        ],
        base_container_name=CONTAINER,
        env_from=[k8s.V1EnvFromSource(secret_ref=k8s.V1SecretEnvSource(name="shelfmark-credentials", optional=True))],
        container_resources=k8s.V1ResourceRequirements(
            requests={"cpu": "4", "memory": "8Gi"}, limits={"memory": "8Gi"}
        ),
        security_context=k8s.V1PodSecurityContext(
            run_as_non_root=True,
            run_as_user=USER_ID,
            run_as_group=USER_ID,
            fs_group=USER_ID,
            seccomp_profile=k8s.V1SeccompProfile(type="RuntimeDefault"),
        ),
        container_security_context=k8s.V1SecurityContext(
            allow_privilege_escalation=False,
            read_only_root_filesystem=True,
            capabilities=k8s.V1Capabilities(drop=["ALL"]),
        ),
        automount_service_account_token=False,
        volumes=[
            k8s.V1Volume(name=name, empty_dir=k8s.V1EmptyDirVolumeSource(size_limit=size))
            for name, size in (("scratch", "32Gi"), ("cache", "4Gi"))
        ],
        volume_mounts=[
            k8s.V1VolumeMount(name="scratch", mount_path="/tmp"),  # noqa: S108
            k8s.V1VolumeMount(name="cache", mount_path="/var/cache/shelfmark"),
        ],
        termination_grace_period=60,
        startup_timeout_seconds=1200,  # a new node may have to pull the image first
        on_finish_action="delete_succeeded_pod",
        log_pod_spec_on_failure=False,
        retries=2,
        retry_delay=timedelta(minutes=5),
        # Deadline of one try: on two cores 12 hours embed 0.8 to 1.5 million pictures, as measured. A first embedding
        # that takes longer starts over with every try, and never ends: raise both timeouts for it. See "How long a run
        # may take" in docs/operations.md.
        execution_timeout=timedelta(hours=12),
    )
