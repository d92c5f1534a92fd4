"""What a runner reports adds up to what the manifest counts."""

from __future__ import annotations

import os
from typing import Any

import pytest
from apache_beam.metrics.cells import DistributionData, DistributionResult
from apache_beam.metrics.execution import MetricKey, MetricResult
from apache_beam.metrics.metricbase import MetricName

from pipelines.beam_flags import parse_beam_flags
from pipelines.embed import embed_options, new_progress, started_now
from pipelines.embed_pipeline import run_pipeline
from pipelines.requests import EmbedRequest
from pipelines.results import BeamMetrics
from store.location import Store
from tests.support.drawn_catalog import draw, put
from tests.support.fakes import FakeEncoderSource
from tests.support.small_embed import embed_again, write_catalog
from transforms.beam_metrics import reported_metrics
from transforms.catalog import find_catalog
from transforms.previous import PreviousSnapshot
from transforms.snapshot import SnapshotRequest

SOURCE = FakeEncoderSource(batch_size=8)


@pytest.mark.parametrize(
    "flags",
    [
        (),
        pytest.param(
            ("--direct_running_mode=multi_processing", "--direct_num_workers=2"),
            marks=pytest.mark.slow,
        ),
        pytest.param(("--runner=PrismRunner",), marks=[pytest.mark.slow, pytest.mark.prism]),
    ],
    ids=["in_process", "multi_processing", "prism"],
)
def test_counters_are_the_counts_of_the_manifest(tmp_path, flags):
    if "--runner=PrismRunner" in flags:
        # A server of its own: one that another test's pipeline has tried to start in this process knows no location.
        own = "--experiments=disable_prism_server_singleton"
        flags = (*flags, f"--prism_location={os.environ['SHELFMARK_PRISM']}", own)
    rows = [*draw(tmp_path, 40), {"image_id": "gone", "image_uri": "gone.jpg"}, {"image_id": "none", "image_uri": ""}]
    catalog, store = write_catalog(tmp_path / "c.csv", rows), tmp_path / "store"
    previous = PreviousSnapshot.of(Store(str(store)), embed_again(catalog, store, source=SOURCE))
    for number in range(11):
        put(tmp_path / f"{number}.jpg", 900 + number, when=5)
    snapshot, now = started_now()
    found = find_catalog(str(catalog))
    options = embed_options(EmbedRequest(catalog, store), found, SOURCE, previous, new_progress(tmp_path))
    request = SnapshotRequest(snapshot, str(catalog), now.isoformat(), 1.0)
    told: list[BeamMetrics] = []
    manifest = run_pipeline(
        found, SOURCE, Store(str(store)), request, options, parse_beam_flags(list(flags)), on_metrics=told.append
    )
    (metrics,) = told
    counts = manifest.counts
    assert (counts.embedded, counts.reused, counts.rejected) == (11, 29, 2)
    assert {name: metrics[name] for name in ("rows_embedded", "rows_reused", "rows_rejected")} == {
        "rows_embedded": 11,
        "rows_reused": 29,
        "rows_rejected": 2,
    }
    assert {name: value for name, value in metrics.items() if name.startswith("rows_rejected_")} == {
        f"rows_rejected_{reason}": count for reason, count in manifest.rejected_by_reason.items()
    }
    sizes = sum((tmp_path / f"{number}.jpg").stat().st_size for number in range(11))
    assert metrics["bytes_fetched"] == sizes
    batches = metrics["batch_pictures"]
    assert isinstance(batches, dict)
    assert (batches["sum"], batches["max"] <= 8) == (11, True)
    # Of 29 pictures the source was asked, and has told that they are unchanged.
    for name, count in (("fetch_ms", 40), ("decode_ms", 11), ("encode_ms", batches["count"])):
        distribution = metrics[name]
        assert isinstance(distribution, dict)
        assert distribution["count"] == count
        assert distribution["min"] <= distribution["mean"] <= distribution["max"]


class Ended:
    """A run that is over, on a runner that reports these, or fails to."""

    def __init__(self, found: dict[str, list[MetricResult]] | Exception) -> None:
        self._found = found

    def metrics(self) -> Ended:
        if isinstance(self._found, Exception):
            raise self._found
        return self

    def query(self, wanted: Any) -> dict[str, list[MetricResult]]:
        assert isinstance(self._found, dict)
        return self._found


def metric(name: str, value: Any, step: str, *, committed: bool = True) -> MetricResult:
    return MetricResult(MetricKey(step, MetricName("shelfmark", name)), value if committed else None, value)


def distribution(*values: int) -> DistributionResult:
    return DistributionResult(DistributionData(sum(values), len(values), min(values), max(values)))


def test_a_name_is_summed_over_its_steps():
    counters = [metric("rows_reused", 5, "Compare"), metric("rows_reused", 2, "EmbedShard", committed=False)]
    distributions = [metric("fetch_ms", distribution(1, 2), "A"), metric("fetch_ms", distribution(10), "B")]
    assert reported_metrics(Ended({"counters": counters, "distributions": distributions})) == {  # type: ignore[arg-type]
        "fetch_ms": {"count": 3, "sum": 13, "min": 1, "max": 10, "mean": 4.333},
        "rows_reused": 7,
    }


def test_a_runner_that_reports_nothing_is_no_fault(caplog):
    assert reported_metrics(Ended(NotImplementedError())) == {}  # type: ignore[arg-type]
    assert not caplog.records


def test_a_runner_that_fails_to_report_fails_no_run(caplog):
    assert reported_metrics(Ended(RuntimeError("gone"))) == {}  # type: ignore[arg-type]
    assert "gone" in caplog.text
