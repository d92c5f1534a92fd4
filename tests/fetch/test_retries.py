from __future__ import annotations

import email.utils
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetch.deadline import Deadline
from fetch.fetcher import FetchOptions
from fetch.retries import PassingFailure, retry_after_s, with_retries
from store.rejects import Reason, Rejected
from tests.support.fake_time import FakeTime


class LongestJitter(random.Random):
    """Always draws the upper end of a pause."""

    def uniform(self, a: float, b: float) -> float:
        return b


def schedule(options: FetchOptions, failures: list[PassingFailure]) -> tuple[FakeTime, Rejected | None]:
    """The pauses made, and the reject if it came to one, when attempts fail like `failures` and then succeed."""
    time_, left = FakeTime(), list(failures)

    def attempt() -> str:
        if left:
            raise left.pop(0)
        return "picture"

    try:
        with_retries(attempt, options, Deadline(time_.clock, options.deadline_s), time_.sleep, LongestJitter())
    except Rejected as rejected:
        return time_, rejected
    return time_, None


def failures(count: int, *, retry_after: float = 0.0) -> list[PassingFailure]:
    return [PassingFailure(Reason.FETCH_ERROR, "HTTP 503", retry_after) for _ in range(count)]


def test_pauses_double_up_to_the_longest() -> None:
    options = FetchOptions(attempts=7, backoff_s=0.5, max_backoff_s=3)
    time_, rejected = schedule(options, failures(6))
    assert time_.slept_s == [0.5, 1, 2, 3, 3, 3]
    assert rejected is None


def test_attempts_are_counted_and_the_last_is_not_followed_by_a_pause() -> None:
    time_, rejected = schedule(FetchOptions(attempts=3), failures(3))
    assert len(time_.slept_s) == 2
    assert rejected is not None
    assert rejected.reason is Reason.FETCH_ERROR
    assert "3 of 3" in rejected.detail


def test_a_server_that_asks_for_time_gets_it() -> None:
    assert schedule(FetchOptions(), failures(1, retry_after=45))[0].slept_s == [45]
    assert schedule(FetchOptions(), failures(1, retry_after=0.1))[0].slept_s == [0.5]


def test_a_pause_that_outlasts_the_deadline_is_not_begun() -> None:
    time_, rejected = schedule(FetchOptions(deadline_s=60), failures(3, retry_after=40))
    assert time_.slept_s == [40]
    assert rejected is not None
    assert "2 of 4" in rejected.detail


@given(seed=st.integers(0, 2**32), attempts=st.integers(1, 8), backoff_s=st.floats(0, 30), deadline_s=st.floats(1, 90))
def test_pauses_never_outlast_the_deadline(seed: int, attempts: int, backoff_s: float, deadline_s: float) -> None:
    options = FetchOptions(attempts=attempts, backoff_s=backoff_s, deadline_s=deadline_s)
    time_, calls = FakeTime(), []

    def attempt() -> None:
        calls.append(time_.now_s)
        raise failures(1)[0]

    with pytest.raises(Rejected):
        with_retries(attempt, options, Deadline(time_.clock, deadline_s), time_.sleep, random.Random(seed))
    assert len(calls) <= attempts
    assert sum(time_.slept_s) < deadline_s
    for number, pause_s in enumerate(time_.slept_s):
        assert 0 <= pause_s <= min(options.max_backoff_s, backoff_s * 2**number)


def test_retry_after_is_read_as_seconds_or_date() -> None:
    assert retry_after_s("7") == 7
    in_a_minute = email.utils.formatdate(time.time() + 60, usegmt=True)
    assert 55 < retry_after_s(in_a_minute) <= 60
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    for unreadable in (None, "", "soon", "-3", "9" * 5000):
        assert 0 <= retry_after_s(unreadable) <= 6 * 3600
