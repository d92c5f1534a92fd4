from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.errors import StoreError
from store.location import Store
from store.measured import Cost, GateVerdict, Recall
from store.runs import OUTCOMES, RUN_FORMAT_VERSION, RunRecord, estimate_cost, read_runs, write_run
from tests.support.versions import day_at, name_of

PUBLISHED = RunRecord(
    run=name_of(5),
    catalog="s3://shop/catalog.csv",
    started_at="2026-11-05T03:15:00+00:00",
    ended_at="2026-11-05T03:16:30.500000+00:00",
    outcome="published",
    message="",
    snapshot=name_of(5),
    version=name_of(5),
    published_before=name_of(4),
    counts={"catalog_rows": 10_000, "embedded": 100, "reused": 9_880, "rejected": 20, "fetched": 103, "encoded": 100},
    rejected_by_reason={"not_found": 15, "timeout": 5},
    gates=(GateVerdict("overlap", 0.93, 0.5, True),),
    recall=Recall(10, 0.95, 0.9712),
    seconds={"embed": 60.0, "index": 30.5},
    cost=Cost(1.25),
    host="worker-1 pid:[4026531836]",
    pid=4321,
)
STARTED = dataclasses.replace(
    PUBLISHED, run=name_of(6), ended_at=None, outcome="running", snapshot=None, version=None, recall=None, gates=()
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def of_day(day: int, **changes: Any) -> RunRecord:
    """A run of a day of November 2026 that has not ended, or what `changes` says."""
    record = dataclasses.replace(PUBLISHED, run=name_of(day), started_at=day_at(day).isoformat(), ended_at=None)
    return dataclasses.replace(record, **changes)


def test_what_is_written_is_read(store: Store) -> None:
    assert read_runs(store) == []
    write_run(store, PUBLISHED)
    write_run(store, STARTED)
    assert read_runs(store) == [PUBLISHED, STARTED]
    ended = dataclasses.replace(STARTED, outcome="failed", ended_at="2026-11-06T04:00:00+01:00", message="no space")
    write_run(store, ended)
    assert read_runs(store) == [PUBLISHED, ended]


def test_the_json_is_the_fields_in_order(store: Store) -> None:
    write_run(store, PUBLISHED)
    document = json.loads(store.read(f"runs/{PUBLISHED.run}.json"))
    names = [field.name for field in dataclasses.fields(RunRecord) if field.name != "format_version"]
    assert list(document) == ["format_version", *names]
    assert document["format_version"] == 1
    assert document["gates"] == [{"gate": "overlap", "value": 0.93, "limit": 0.5, "passed": True}]


@given(st.sets(st.integers(1, 28), max_size=8), st.none() | st.integers(1, 10))
def test_the_newest_are_read_and_the_oldest_comes_first(tmp_path_factory, days: set[int], last: int | None) -> None:
    store = Store(str(tmp_path_factory.mktemp("runs")))
    for day in days:
        write_run(store, of_day(day))
    expected = [name_of(day) for day in sorted(days)]
    assert [record.run for record in read_runs(store, last)] == (expected[-last:] if last else expected)


def test_a_file_that_is_no_record_is_skipped_and_makes_room_for_another(store: Store) -> None:
    good = json.loads(PUBLISHED.to_json())
    broken: dict[int, bytes | str] = {
        1: b"",
        2: PUBLISHED.to_json()[:-40],
        3: b"[]",
        4: b'{"format_version": 1}',
        5: json.dumps({**good, "counts": [1]}),
        6: json.dumps({**good, "counts": {"embedded": "many"}}),
        7: json.dumps({**good, "gates": [{"gate": "overlap"}]}),
        8: json.dumps({**good, "started_at": "yesterday"}),
        9: json.dumps({**good, "ended_at": "2026-11-05T03:16:30"}),
        10: json.dumps({**good, "format_version": RUN_FORMAT_VERSION + 1}),
        11: json.dumps({**good, "format_version": "one"}),
        12: json.dumps({**good, "gates": None}),
        13: json.dumps({**good, "pid": "4321"}),
        14: b"\xff\xfe",
    }
    for day, data in broken.items():
        text = data if isinstance(data, bytes) else data.replace(PUBLISHED.run, name_of(day)).encode()
        store.replace(f"runs/{name_of(day)}.json", text)
        with pytest.raises(StoreError) as caught:
            RunRecord.from_json(text)
        assert "\n" not in str(caught.value)
    for name in ("notes.json", f"{name_of(20)}.json.tmp", name_of(21)):
        store.replace(f"runs/{name}", PUBLISHED.to_json())
    write_run(store, of_day(15))
    store.replace(f"runs/{name_of(22)}.json", PUBLISHED.to_json())  # a copy of another run's record
    assert read_runs(store) == [of_day(15)]
    assert read_runs(store, 1) == [of_day(15)]


def test_a_later_versions_extra_field_is_left_out(store: Store) -> None:
    document = {**json.loads(PUBLISHED.to_json()), "spot_price": 0.3}
    store.replace(f"runs/{PUBLISHED.run}.json", json.dumps(document).encode())
    assert read_runs(store) == [PUBLISHED]


def test_names_and_outcomes_that_no_run_has_are_refused(store: Store) -> None:
    with pytest.raises(ValueError, match=r"run: expected a name .* found '\.\./indexes/CURRENT'"):
        write_run(store, dataclasses.replace(PUBLISHED, run="../indexes/CURRENT"))
    with pytest.raises(ValueError, match=r"outcome: expected one of running, .* found 'fine'"):
        write_run(store, dataclasses.replace(PUBLISHED, outcome="fine"))
    for outcome in OUTCOMES:
        write_run(store, dataclasses.replace(PUBLISHED, outcome=outcome))
    assert [record.outcome for record in read_runs(store)] == [OUTCOMES[-1]]


def test_seconds_from_start_to_end() -> None:
    assert PUBLISHED.total_seconds == 90.5
    assert STARTED.total_seconds is None
    other_zone = dataclasses.replace(PUBLISHED, ended_at="2026-11-05T04:16:00+01:00")
    assert other_zone.total_seconds == 60.0


def test_cost_of_a_million_pictures() -> None:
    assert estimate_cost(1_000_000, 7200.0, None).to_dict() == {"machine_hours_per_million": 2.0}
    assert estimate_cost(500, 1.8, 3.0).to_dict() == {
        "machine_hours_per_million": pytest.approx(1.0),
        "per_million": pytest.approx(3.0),
        "cost_per_hour": 3.0,
    }
    assert estimate_cost(100, 36.0, 0.0).per_million == 0.0
    assert estimate_cost(0, 12.0, 3.0).to_dict() == {}
