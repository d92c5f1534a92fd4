"""Metrics: there from the start, and summed over the processes of one server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving import metrics
from serving.problem import Problem

REPOSITORY = Path(__file__).parents[2]

LIVING = """
import sys
from serving import metrics
metrics.REQUESTS.labels("/v1/search", "POST", "200").inc(2)
metrics.IN_FLIGHT.inc(3)
metrics.BATCH_PICTURES.observe(4)
metrics.INDEX_RECALL.set(0.9)
metrics.VERSION_REFUSED.set(1)
print("there", flush=True)
sys.stdin.read()
"""
READING = """
import sys
from serving import metrics
metrics.REQUESTS.labels("/v1/search", "POST", "200").inc(5)
metrics.IN_FLIGHT.inc(1)
metrics.BATCH_PICTURES.observe(1)
metrics.INDEX_RECALL.set(0.95)
metrics.VERSION_REFUSED.set(0)
sys.stdout.buffer.write(metrics.render())
"""


def values(text: str) -> dict[str, float]:
    """Series with its labels -> value; fails where a series is there twice."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            name = f"{sample.name}{{{labels}}}"
            assert name not in found
            found[name] = sample.value
    return found


def test_series_are_there_before_anything_happens():
    found = values(metrics.render().decode())
    for series in (
        *(f"refused_total{{reason={reason}_full}}" for reason in ("pictures", "queries", "uploads", "thumbnails")),
        *(f"swaps_total{{outcome={outcome}}}" for outcome in ("swapped", "refused")),
        *(f"thumbnails_total{{outcome={outcome}}}" for outcome in ("hit", "made", "gone")),
        "requests_in_flight{}",
        "pictures_waiting{}",
        "queries_waiting{}",
        "batch_pictures_count{}",
        "batch_queries_count{}",
        "encode_seconds_count{}",
        "search_seconds_count{}",
        "decode_seconds_count{}",
        "thumbnail_cache_bytes{}",
        "swap_seconds_count{}",
        "version_refused{}",
    ):
        assert f"shelfmark_{series}" in found
    assert found["process_resident_memory_bytes{}"] > 1e6


def worker(folder: Path, script: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)}
    command = [sys.executable, "-c", script]
    return subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_several_processes_are_one_server_and_the_dead_hold_no_requests(tmp_path):
    with worker(tmp_path, LIVING) as dead:
        dead.communicate("")
    assert list(tmp_path.glob(f"gauge_livesum_{dead.pid}.db"))
    with worker(tmp_path, LIVING) as living:
        assert living.stdout is not None
        assert living.stdout.readline() == "there\n"
        with worker(tmp_path, READING) as reading:
            text, _ = reading.communicate()
        living.communicate("")
    found = values(text)
    assert found["shelfmark_requests_total{method=POST,route=/v1/search,status=200}"] == 2 + 2 + 5
    assert found["shelfmark_batch_pictures_count{}"] == 3
    assert found["shelfmark_batch_pictures_sum{}"] == 4 + 4 + 1
    assert found["shelfmark_requests_in_flight{}"] == 3 + 1
    assert found["shelfmark_index_recall{}"] == 0.9  # the least
    assert found["shelfmark_version_refused{}"] == 1  # anybody's
    assert found["shelfmark_swaps_total{outcome=refused}"] == 0
    assert not list(tmp_path.glob(f"gauge_live*_{dead.pid}.db"))


def test_without_the_common_folder_it_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "gone"))
    with pytest.raises(Problem) as problem:
        metrics.render()
    assert problem.value.status == 503
