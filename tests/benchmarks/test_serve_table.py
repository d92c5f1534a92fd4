from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.serve_client import Bodies, Client, Load, find_k6
from benchmarks.serve_data import FORMS
from benchmarks.serve_load import split_cores
from benchmarks.serve_rates import PICTURE_USERS, VECTOR_USERS, summarise
from benchmarks.serve_requests import Requests, Window
from benchmarks.serve_stress import overload_figures, swap_figures
from benchmarks.serve_table import Goal, goals, table_lines

PARTS = ("nothing", "vectors", "pictures", "swaps", "overload")
MEMORY = {"total": 300.0, "anonymous": 200.0, "file": 100.0}


def requests_of(*rows):
    ended_s, duration_ms, status = np.array(rows, np.float64).reshape(-1, 3).T
    return Requests(ended_s, duration_ms, status.astype(np.int64), not_offered=3)


def point(users, per_s, queries=1, encoding="", **changes):
    found = {
        "encoding": encoding,
        "queries": queries,
        "users": users,
        "per_s": per_s,
        "cpu_ms": 1.5,
        "requests": 10,
        "errors": 0,
    }
    return {**found, "p50_ms": 1.0, "p95_ms": 2.0, "p99_ms": 3.0, **changes}


def all_records():
    vectors = [point(users, 600.0 * form[1], form[1], form[0]) for form in FORMS for users in VECTOR_USERS]
    pictures = [point(users, 8.0) for users in PICTURE_USERS]
    steady = requests_of(*((second / 10, 20, 200) for second in range(1000)))
    overload = requests_of(*((second, 10, 503) for second in range(90)), *((second, 900, 200) for second in range(10)))
    swaps = {"capacity_per_s": 25.0, "offered_per_s": 10, **swap_figures(steady, [Window(5.0, 6.0)])}
    swaps["memory_mb"] = [MEMORY] * 3
    loaded = {"before_per_s": 1.0, "after_per_s": 0.95, "asked_per_s": 10, **overload_figures(overload, Window(0, 10))}
    loaded["memory_mb"] = {"calm": MEMORY, "peak": MEMORY, "after": MEMORY}
    return {
        "nothing": {"points": vectors},
        "vectors": summarise([{"bare": {"threads": 1, "per_s": 1000.0, "cpu_ms": 1.0}, "points": vectors}]),
        "pictures": {
            **summarise([{"bare": {"batch_size": 32, "per_s": 10.0, "cpu_ms": 90.0}, "points": pictures}]),
            "overhead": {"direct_ms": 50.0, "server_ms": 58.0, "requests": 100},
        },
        "swaps": {"vectors": swaps, "pictures": swaps},
        "overload": {"vectors": loaded, "pictures": loaded},
    }


def test_turns_are_compared_each_with_its_own_and_medians_count():
    turns = [
        {
            "bare": {"threads": 1, "per_s": bare, "cpu_ms": 1000 / bare},
            "points": [point(4, rate, p99_ms=p99_ms, errors=1)],
        }
        for bare, rate, p99_ms in ((100, 50, 9), (200, 120, 1), (400, 320, 2))
    ]
    record = summarise(turns)
    (found,) = record["points"]
    assert record["bare"] == {"threads": 1, "per_s": 200, "cpu_ms": 5}
    assert found["cpu_ratio"] == pytest.approx(200 / 60)
    assert (found["ratio"], found["per_s"], found["p99_ms"], found["errors"]) == (0.6, 120, 2, 3)


def test_requests_under_way_in_a_swap_are_compared_with_the_others():
    calm = [(second, 10, 200) for second in range(100)]
    figures = swap_figures(
        requests_of(*calm, (50.5, 400, 200), (50.6, 1, 503)), [Window(50.2, 50.4), Window(80.1, 80.5)]
    )
    assert (figures["requests"], figures["during"], figures["errors"], figures["not_offered"]) == (102, 1, 1, 3)
    assert (figures["during_p99_ms"], figures["outside_p99_ms"]) == (400, 10)
    assert figures["swap_s"] == pytest.approx(0.3)
    assert figures["longest_swap_s"] == pytest.approx(0.4)


def test_answers_of_an_overload_are_told_from_refusals_and_from_what_may_not_be():
    rows = [(1, 500, 200), (2, 700, 200), (3, 5, 503), (4, 7, 429), (5, 1, 500), (6, 1, 0)]
    figures = overload_figures(requests_of(*rows), Window(0, 10))
    assert (figures["unexpected"], figures["answered_p99_ms"], figures["refused_p99_ms"]) == (2, 700, 7)
    assert (figures["offered_per_s"], figures["answered_per_s"]) == (0.6, 1.0)


@pytest.mark.parametrize(
    ("found", "at_least", "met"),
    [(3.0, True, True), (2.9, True, False), (3.0, False, True), (3.1, False, False), (float("nan"), False, False)],
)
def test_a_goal_is_met_at_its_limit_and_never_by_nothing(found, at_least, met):
    goal = Goal("a figure", found, 3.0, at_least)
    assert goal.met == met
    assert goal.line().split()[-1] == ("-" if np.isnan(found) else "met" if met else "MISSED")


def test_every_goal_has_its_figure():
    found = {goal.title: (goal.found, goal.met) for goal in goals(all_records())}
    expected = {
        "vectors/s, 1 vector as numbers in a request / searcher alone": (0.6, True),
        "pictures/s at 32 users / encoder alone": (0.8, False),
        "one picture, added to decode + encode + search, p50 ms": (8.0, True),
        "vector queries, 1 swaps: requests": (1000, False),
        "picture queries, 1 swaps: p99 during / p99 outside": (1, True),
        "picture queries, overload: offered / capacity": (10, True),
        "picture queries, overload: refusals, p99 ms": (10, True),
        "picture queries, overload: answered / capacity": (pytest.approx(10 / 9), True),
        "picture queries, overload: capacity 5 s later / before": (0.95, True),
    }
    assert {title: found[title] for title in expected} == expected
    assert "vector queries, overload: offered / capacity" not in found


def test_tables_show_what_was_measured_and_are_read_back_as_they_were_kept():
    records = json.loads(json.dumps(all_records()))
    text = "\n".join(table_lines(records))
    assert "90 x 503, 10 x 200" in text
    assert "1,000 requests, 11 of them during a swap, 0 errors" in text
    assert sum(line.endswith((" met", " MISSED")) for line in text.splitlines()) == len(list(goals(records)))
    for part in PARTS:
        assert list(table_lines({**dict.fromkeys(PARTS), part: records[part]}))


def test_a_server_and_its_load_share_no_core():
    assert split_cores({3, 1}) == (frozenset({1}), frozenset({3}))
    assert split_cores(set(range(5))) == (frozenset({0, 1}), frozenset({2, 3, 4}))
    with pytest.raises(SystemExit, match=r"expected two cores, .* found 1"):
        split_cores({0})


def test_a_load_is_of_users_who_wait_or_of_so_many_a_second():
    assert Load(4, 2.5).to_scenario() == {
        "executor": "constant-vus",
        "vus": 4,
        "duration": "2500ms",
        "gracefulStop": "60s",
    }
    steady = Load(4, 2.5, 100).to_scenario()
    assert (steady["executor"], steady["rate"], steady["maxVUs"]) == ("constant-arrival-rate", 100, 4)


def test_a_missing_load_generator_is_named_with_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("SHELFMARK_K6", str(tmp_path / "k6"))
    with pytest.raises(SystemExit, match=r"expected the load generator .* found none; .*go install go\.k6\.io/k6@v"):
        find_k6()


@pytest.fixture
def fake_k6(monkeypatch, tmp_path):
    """Stands in for k6: writes the samples it is given, then ends with a code of its own."""

    def make(samples, code):
        program = tmp_path / "k6"
        write = f"case $part in csv=*) printf '%s' '{samples}' > ${{part#csv=}};; esac"
        program.write_text(f"#!/bin/sh\nfor part; do {write}; done\necho why\nexit {code}\n", encoding="utf-8")
        program.chmod(0o755)
        monkeypatch.setenv("SHELFMARK_K6", str(program))
        return Client({0}), Bodies((tmp_path / "a.json",), "application/json")

    return make


def test_a_measurement_begins_after_the_warm_up(fake_k6):
    header = "metric_name,timestamp,metric_value,status,extra_tags,metadata"
    client, bodies = fake_k6(f"{header}\nhttp_req_duration,11000000,1000,200,,\n", 0)
    requests, window = client.measure("http://127.0.0.1:1", bodies, Load(1, 5), warm_up_s=2)
    assert (len(requests), window) == (1, Window(12.0, 17.0))


def test_a_load_generator_that_fails_is_not_a_measurement(fake_k6):
    client, bodies = fake_k6("", 99)
    with pytest.raises(RuntimeError, match="k6 ended with 99:\nwhy"):
        client.measure("http://127.0.0.1:1", bodies, Load(1, 5))
