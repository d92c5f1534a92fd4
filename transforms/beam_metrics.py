"""What a runner's UI shows of a run: counters and distributions of Beam, in the namespace "shelfmark".

Counters: rows_embedded, rows_reused, rows_rejected, rows_rejected_<reason>, bytes_fetched. Distributions: fetch_ms and
decode_ms of a picture, encode_ms and batch_pictures and batch_fill_percent of a batch. A runner counts what a bundle
did once the bundle is committed, so a retried one counts once.
"""

from __future__ import annotations

from collections.abc import Iterable

from apache_beam.metrics import Metrics
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.runners.runner import PipelineResult

from transforms.row_outcomes import EmbeddedRow, RejectedRow, RowOutcome

NAMESPACE = "shelfmark"

_COUNTERS = ("bytes_fetched",)


def count_outcome(outcome: RowOutcome) -> None:
    """Counts a row by how it ended."""
    if isinstance(outcome, EmbeddedRow):
        _count("rows_embedded", 1)
    elif isinstance(outcome, RejectedRow):
        _count("rows_rejected", 1)
        _count(f"rows_rejected_{outcome.reason.value}", 1)
    else:
        count_reused(1)


def count_reused(rows: int) -> None:
    """Counts rows that keep an embedding of the previous snapshot."""
    _count("rows_reused", rows)


def record(measured: Iterable[tuple[str, int]]) -> None:
    """Adds numbers to the counter or distribution of their name; in the thread that a DoFn is called in."""
    for name, value in measured:
        if name in _COUNTERS:
            _count(name, value)
        else:
            Metrics.distribution(NAMESPACE, name).update(value)


def _count(name: str, by: int) -> None:
    Metrics.counter(NAMESPACE, name).inc(by)


def reported_metrics(result: PipelineResult) -> dict[str, int | dict[str, float]]:
    """What the runner reports of a run: counters as numbers, distributions as count, sum, min, max and mean.

    Args:
        result: Of a pipeline that has ended.

    Returns:
        By name, in alphabetical order; empty where the runner reports nothing.
    """
    try:
        found = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))
    except (AttributeError, NotImplementedError, ValueError):
        return {}  # not every runner has them
    counters: dict[str, int | dict[str, float]] = {}
    for metric in found["counters"]:
        name = metric.key.metric.name
        counters[name] = int(counters.get(name, 0)) + int(metric.result)  # type: ignore[arg-type]
    for metric in found["distributions"]:
        value = metric.result
        if value.count:
            numbers = {"count": value.count, "sum": value.sum, "min": value.min, "max": value.max}
            counters[metric.key.metric.name] = {**numbers, "mean": round(value.sum / value.count, 3)}
    return dict(sorted(counters.items()))
