from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.serve_requests import Requests, Window, rate_per_s, read_requests

HEADER = "metric_name,timestamp,metric_value,status,extra_tags,metadata"


def requests_of(*rows, **counts):
    """Requests from (ended_s, duration_ms, status)."""
    ended_s, duration_ms, status = np.array(rows, np.float64).reshape(-1, 3).T
    return Requests(ended_s, duration_ms, status.astype(np.int64), **counts)


def test_what_k6_writes_is_read_in_the_order_in_which_requests_ended(tmp_path):
    lines = [
        HEADER,
        "http_reqs,1795266834624070,1.000000,200,,",
        "http_req_duration,1795266834624070,7.956591,200,,",
        "http_req_waiting,1795266834624070,6.4,200,,",
        "http_req_duration,1795266834500000,1.5,503,,",
        "http_req_duration,1795266834700000,60000,0,,",
        "refused_without_retry_after,1795266834500000,1.000000,,,",
        "dropped_iterations,1795266834500000,3.000000,,,",
        "dropped_iterations,1795266835500000,4.000000,,,",
    ]
    path = tmp_path / "samples.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = read_requests(path)
    assert found.status.tolist() == [503, 200, 0]
    np.testing.assert_allclose(found.ended_s, [1795266834.5, 1795266834.62407, 1795266834.7], rtol=0, atol=1e-6)
    assert found.duration_ms.tolist() == [1.5, 7.956591, 60000]
    assert (found.not_offered, found.unannounced, found.errors) == (7, 1, 2)
    assert found.by_status() == {"none": 1, "200": 1, "503": 1}
    path.write_text(HEADER + "\n", encoding="utf-8")
    assert len(read_requests(path)) == 0


@given(
    st.lists(st.tuples(st.integers(0, 100), st.integers(0, 30)), max_size=30),
    st.lists(st.tuples(st.integers(0, 100), st.integers(0, 20)), max_size=5),
)
def test_a_request_overlaps_a_window_if_both_share_a_moment(requests, windows):
    found = requests_of(*((end, 1000 * length, 200) for end, length in requests)).overlapping(
        [Window(begin, begin + length) for begin, length in windows]
    )
    expected = [
        any(
            set(range(end - length, end + 1)) & set(range(begin, begin + window_length + 1))
            for begin, window_length in windows
        )
        for end, length in requests
    ]
    assert found.tolist() == expected


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60), st.integers(1, 100))
def test_a_percentile_is_the_least_duration_that_enough_did_not_exceed(durations, percent):
    found = requests_of(*((0.0, duration, 200) for duration in durations)).percentile_ms(percent)
    enough = [
        value for value in durations if 100 * sum(other <= value for other in durations) >= percent * len(durations)
    ]
    assert found == min(enough)


def test_no_request_has_no_percentile():
    assert math.isnan(requests_of().percentile_ms(99))


@pytest.mark.parametrize("began_s", [10.0, 10.3, 10.9])
def test_a_rate_is_of_whole_batches_wherever_the_window_cuts(began_s):
    batches = [(10.0 + number + within / 1000, 900, 200) for number in range(-2, 12) for within in range(32)]
    assert rate_per_s(requests_of(*batches), Window(began_s + 0.05, began_s + 8.05)) == pytest.approx(32)


def test_a_rate_counts_good_answers_and_begins_with_the_window_where_none_came_before():
    rows = [(1.0, 10, 503), (2.0, 10, 200), (3.0, 10, 200), (4.0, 10, 0), (9.0, 10, 200)]
    assert rate_per_s(requests_of(*rows), Window(0.0, 5.0)) == pytest.approx(2 / 3)
    assert rate_per_s(requests_of(*rows), Window(4.0, 5.0)) == 0


def test_picking_keeps_what_was_counted_for_all():
    picked = requests_of((1.0, 5, 200), (2.0, 6, 503), (3.0, 7, 429), not_offered=4, unannounced=2)
    refused = picked.with_status(429, 503)
    assert (refused.duration_ms.tolist(), refused.not_offered, refused.unannounced) == ([6, 7], 4, 2)
    assert picked.ended_in(Window(1.0, 3.0)).duration_ms.tolist() == [5, 6]
