"""When to try a picture again, and after how long."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

import urllib3
from urllib3 import exceptions as http_errors

from fetch.deadline import Deadline
from fetch.options import FetchOptions
from store.rejects import Reason, Rejected

T = TypeVar("T")


class PassingFailure(Exception):
    """An attempt failed in a way that another may not.

    Attributes:
        reason: What the picture is rejected for if no attempt succeeds.
        detail: One line for a person.
        retry_after_s: Seconds the server asked to be left alone; 0 if it did not ask.
    """

    def __init__(self, reason: Reason, detail: str, retry_after_s: float = 0.0) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.retry_after_s = retry_after_s


def with_retries(
    attempt: Callable[[], T],
    options: FetchOptions,
    deadline: Deadline,
    sleep: Callable[[float], None],
    jitter: random.Random,
) -> T:
    """Calls `attempt` until it succeeds, with exponential backoff and full jitter between failures.

    The pause is uniform over [0, min(max_backoff_s, backoff_s * 2**failures_so_far)] ("Exponential Backoff And
    Jitter", AWS Architecture Blog, 2015) and never shorter than the server's Retry-After.

    Raises:
        Rejected: Attempts are used up, or the next pause would outlast the deadline.
    """
    for number in range(1, options.attempts + 1):
        try:
            return attempt()
        except PassingFailure as failure:
            ceiling_s = min(options.max_backoff_s, options.backoff_s * 2.0 ** (number - 1))
            pause_s = max(jitter.uniform(0.0, ceiling_s), failure.retry_after_s)
            if number == options.attempts or pause_s >= deadline.remaining_s():
                detail = f"{failure.detail} ({number} of {options.attempts} attempts made)"
                raise Rejected(failure.reason, detail, passing=True) from failure
        sleep(pause_s)
    raise ValueError(f"attempts must be at least 1, found {options.attempts}")


def retry_after_s(header: str | None) -> float:
    """Seconds a Retry-After header asks for, given as a number or as an HTTP date; 0 if absent or unreadable."""
    if header is None:
        return 0.0
    try:
        return float(urllib3.Retry().parse_retry_after(header))
    except (http_errors.InvalidHeader, ValueError, OverflowError):
        return 0.0
