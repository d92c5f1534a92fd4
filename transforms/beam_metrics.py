"""What a runner's UI shows of a run: counters and distributions of Beam, in the namespace "shelfmark".

Counters: rows_embedded, rows_reused, rows_rejected, rows_rejected_<reason>, bytes_fetched. Distributions: fetch_ms and
decode_ms of a picture, encode_ms and batch_pictures and batch_fill_percent of a batch. A runner counts what a bundle
did once the bundle is committed, so a retried one counts once.
"""

from __future__ import annotations

import collections
import functools
import logging
from collections.abc import Iterable

from apache_beam.metrics import Metrics
from apache_beam.metrics.cells import DistributionData
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.metrics.metricbase import Counter, Distribution
from apache_beam.runners.runner import PipelineResult

from transforms.row_outcomes import EmbeddedRow, RejectedRow, RowOutcome

NAMESPACE = "shelfmark"

_LOG = logging.getLogger("shelfmark")

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
            _distribution(name).update(value)


def _count(name: str, by: int) -> None:
    _counter(name).inc(by)


# Made once: to make one costs twice what it costs to use it.
@functools.cache
def _counter(name: str) -> Counter:
    return Metrics.counter(NAMESPACE, name)


@functools.cache
def _distribution(name: str) -> Distribution:
    return Metrics.distribution(NAMESPACE, name)


def reported_metrics(result: PipelineResult) -> dict[str, int | dict[str, float]]:
    """What the runner reports of a run: counters as numbers, distributions as count, sum, min, max and mean.

    Args:
        result: Of a pipeline that has ended.

    Returns:
        By name, summed over the steps that have it, in alphabetical order; empty where the runner reports nothing. A
        runner that fails to report is a warning: the run is over, and what it committed stands.
    """
    try:
        found = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))
    except (AttributeError, NotImplementedError):
        return {}  # not every runner has them
    except Exception as error:  # whatever a runner's own client raises
        _LOG.warning(f"the runner's metrics could not be had: {type(error).__name__}: {' '.join(str(error).split())}")
        return {}
    counters: collections.Counter[str] = collections.Counter()
    for metric in found["counters"]:
        counters[metric.key.metric.name] += metric.result or 0
    distributions: dict[str, DistributionData] = {}
    for metric in found["distributions"]:
        name, value = metric.key.metric.name, metric.result
        if value is not None and value.count:
            distributions[name] = value.data.combine(distributions.get(name))
    told: dict[str, int | dict[str, float]] = {name: _numbers(value) for name, value in distributions.items()}
    return dict(sorted({**told, **counters}.items()))


def _numbers(data: DistributionData) -> dict[str, float]:
    mean = round(data.sum / data.count, 3)
    return {"count": data.count, "sum": data.sum, "min": data.min, "max": data.max, "mean": mean}
