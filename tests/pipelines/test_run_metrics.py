from __future__ import annotations

import dataclasses
import datetime
import math
import os
import re
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.run_metrics import metrics_text, write_metrics_file
from store.errors import StoreError, UserError
from store.measured import Cost, GateVerdict
from store.rejects import Reason
from store.runs import OUTCOMES
from tests.store.test_runs import PUBLISHED, STARTED

NOW = datetime.datetime(2026, 11, 6, 3, 20, tzinfo=datetime.timezone.utc)
ENDED_S = datetime.datetime(2026, 11, 5, 3, 16, 30, 500_000, tzinfo=datetime.timezone.utc).timestamp()
FAILED = dataclasses.replace(
    STARTED, outcome="failed", message="no space", counts={}, rejected_by_reason={}, seconds={}, cost=Cost()
)

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"')
_SAMPLE = re.compile(rf"({_NAME})(?:\{{(.*)\}})? (\S+)")


def parse(text: str) -> Samples:
    """Reads the text format 0.0.4 as strictly as it is written down: a metric's HELP, TYPE and samples together."""
    assert text.endswith("\n")
    assert "\r" not in text
    samples: Samples = {}
    declared: set[str] = set()
    name = kind = ""
    for line in text[:-1].split("\n"):
        if help_line := re.fullmatch(rf"# HELP ({_NAME}) ((?:[^\\]|\\[\\n])+)", line):
            name, kind = help_line[1], ""
            assert name not in declared, f"{name} stands twice"
            declared.add(name)
        elif type_line := re.fullmatch(rf"# TYPE ({_NAME}) (gauge|counter)", line):
            assert (type_line[1], kind) == (name, "")
            kind = type_line[2]
        else:
            sample = _SAMPLE.fullmatch(line)
            assert sample, line
            assert (sample[1], kind) == (name, "gauge")
            key = name, parse_labels(sample[2])
            assert key not in samples, f"{key} stands twice"
            samples[key] = float(sample[3].replace("Inf", "inf"))
    assert declared == {name for name, _ in samples}, "a metric without a sample"
    return samples


def parse_labels(inside: str | None) -> frozenset[tuple[str, str]]:
    if inside is None:
        return frozenset()
    pairs = [
        (found[1], re.sub(r"\\(.)", lambda escaped: {"n": "\n"}.get(escaped[1], escaped[1]), found[2]))
        for found in _LABEL.finditer(inside)
    ]
    assert ",".join(found[0] for found in _LABEL.finditer(inside)) == inside
    assert pairs
    assert len(dict(pairs)) == len(pairs)
    return frozenset(pairs)


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((f"shelfmark_reindex_{name}", frozenset(labels.items())))


def test_what_a_published_run_says() -> None:
    samples = parse(metrics_text(PUBLISHED, NOW))
    expected = {
        "last_run_timestamp_seconds": ENDED_S,
        "last_success_timestamp_seconds": ENDED_S,
        "catalog_rows": 10_000,
        "fetched_rows": 103,
        "encoded_rows": 100,
        "recall": 0.9712,
        "recall_target": 0.95,
        "machine_hours_per_million": 1.25,
    }
    assert {name: value(samples, name) for name in expected} == expected
    fates = {"embedded": 100, "reused": 9_880, "rejected": 20}
    assert {fate: value(samples, "rows", fate=fate) for fate in fates} == fates
    steps = {"embed": 60.0, "index": 30.5}
    assert {step: value(samples, "duration_seconds", stage=step) for step in steps} == steps
    gates = {"gate_value": 0.93, "gate_limit": 0.5, "gate_passed": 1.0}
    assert {name: value(samples, name, gate="overlap") for name in gates} == gates
    assert value(samples, "cost_per_million") is None  # nobody gave a price


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_one_outcome_is_one_and_the_others_are_zero(outcome: str) -> None:
    samples = parse(metrics_text(dataclasses.replace(PUBLISHED, outcome=outcome), NOW, last_success_s=7.0))
    assert {one: value(samples, "outcome", outcome=one) for one in OUTCOMES} == {
        one: float(one == outcome) for one in OUTCOMES
    }
    succeeded = outcome in ("published", "nothing_to_do")
    assert value(samples, "last_success_timestamp_seconds") == (ENDED_S if succeeded else 7.0)
    assert value(samples, "last_run_timestamp_seconds") == ENDED_S


def test_every_reason_has_a_sample_so_that_a_first_reject_is_seen_as_a_rise() -> None:
    samples = parse(metrics_text(PUBLISHED, NOW))
    found = {
        reason: value(samples, "rejected_rows", stage=reason.stage.value, reason=reason.value) for reason in Reason
    }
    assert found == {**dict.fromkeys(Reason, 0.0), Reason.NOT_FOUND: 15.0, Reason.TIMEOUT: 5.0}


def test_what_a_run_did_not_come_to_is_left_out() -> None:
    """Zeros would look like a catalog that was emptied."""
    samples = parse(metrics_text(FAILED, NOW))
    names = {name.removeprefix("shelfmark_reindex_") for name, _ in samples}
    assert names == {"last_run_timestamp_seconds", "last_success_timestamp_seconds", "outcome"}
    assert value(samples, "last_run_timestamp_seconds") == NOW.timestamp()
    assert value(samples, "last_success_timestamp_seconds") == 0.0


def test_a_gate_that_measured_nothing_has_a_limit_and_no_value() -> None:
    gate = GateVerdict("overlap", None, 0.5, True)
    samples = parse(metrics_text(dataclasses.replace(PUBLISHED, gates=(gate,)), NOW))
    assert value(samples, "gate_value", gate="overlap") is None
    assert value(samples, "gate_limit", gate="overlap") == 0.5


@given(st.dictionaries(st.text(), st.floats(), max_size=4), st.integers(0, 2**53))
def test_any_name_and_number_comes_back_as_it_was(seconds: dict[str, float], rows: int) -> None:
    counts = {"catalog_rows": rows}
    seconds = {name: spent for name, spent in seconds.items() if "\r" not in name}
    samples = parse(metrics_text(dataclasses.replace(PUBLISHED, seconds=seconds, counts=counts), NOW))
    assert value(samples, "catalog_rows") == rows
    for name, spent in seconds.items():
        found = value(samples, "duration_seconds", stage=name)
        assert found == spent or (found is not None and math.isnan(found) and math.isnan(spent))


def test_a_failed_run_keeps_the_time_of_the_last_success(tmp_path: Path) -> None:
    path = tmp_path / "shelfmark.prom"
    write_metrics_file(str(path), FAILED, NOW)
    assert value(parse(path.read_text()), "last_success_timestamp_seconds") == 0.0
    write_metrics_file(str(path), PUBLISHED, NOW)
    for outcome in ("failed", "refused", "interrupted"):
        write_metrics_file(str(path), dataclasses.replace(FAILED, outcome=outcome), NOW)
        samples = parse(path.read_text())
        assert value(samples, "last_success_timestamp_seconds") == ENDED_S
        assert value(samples, "last_run_timestamp_seconds") == NOW.timestamp()
        assert value(samples, "outcome", outcome=outcome) == 1.0


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"shelfmark_reindex_last_success_timestamp_seconds soon\n", b"other_metric 1\n"]
)
def test_a_file_that_tells_no_last_success_is_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "shelfmark.prom"
    path.write_bytes(content)
    write_metrics_file(str(path), FAILED, NOW)
    assert value(parse(path.read_text()), "last_success_timestamp_seconds") == 0.0


def test_the_file_is_for_all_to_read_and_nothing_lies_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "shelfmark.prom"
    before = os.umask(0o077)
    try:
        write_metrics_file(str(path), PUBLISHED, NOW)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert os.listdir(tmp_path) == ["shelfmark.prom"]
    assert path.read_text() == metrics_text(PUBLISHED, NOW)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "shelfmark.prom"
    write_metrics_file(str(path), PUBLISHED, NOW)

    def fail(descriptor: int) -> None:
        assert [name.endswith(".prom") for name in sorted(os.listdir(tmp_path))] == [False, True]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreError, match=r"cannot write .*shelfmark\.prom: no space left"):
        write_metrics_file(str(path), FAILED, NOW)
    assert path.read_text() == metrics_text(PUBLISHED, NOW)
    assert os.listdir(tmp_path) == ["shelfmark.prom"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("shelfmark.txt", r"expected a name that ends in \.prom"),
        ("none/shelfmark.prom", "expected a folder, found none"),
    ],
)
def test_a_file_no_node_exporter_would_read_is_refused(tmp_path: Path, name: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        write_metrics_file(str(tmp_path / name), PUBLISHED, NOW)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / name).exists()
