"""Requests that are turned away for want of room."""

from __future__ import annotations

from serving import metrics
from serving.problem import Problem, busy


def refused(reason: str, what: str, retry_after_s: float) -> Problem:
    """Counts a request that is turned away, and gives what it is answered.

    Args:
        reason: As the metric has it, such as "pictures_full".
        what: That is full, such as "64 pictures are waiting".
        retry_after_s: When there may be room.
    """
    metrics.REFUSED.labels(reason).inc()
    return busy(what, retry_after_s)
