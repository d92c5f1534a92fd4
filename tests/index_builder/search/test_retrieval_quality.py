from __future__ import annotations

import json
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index_builder.search.retrieval_quality import measure_retrieval
from store.errors import UserError

LABELS = st.sampled_from("abc")
Cases = Sequence[tuple[str, "Sequence[str | None]", int]]


@st.composite
def queries(draw: st.DrawFn) -> Cases:
    """(label, labels of its answers, relevant rows) of some queries."""
    found: list[tuple[str, list[str | None], int]] = []
    for _ in range(draw(st.integers(1, 12))):
        label = draw(LABELS)
        answers = draw(st.lists(st.one_of(st.none(), LABELS), max_size=7))
        found.append((label, answers, answers.count(label) + draw(st.integers(0, 4))))
    return found


def by_hand(label: str, answers: Sequence[str | None], relevant: int, k: int) -> tuple[float, float, float]:
    """The definitions, place by place."""
    hits, summed = 0, 0.0
    for place, answer in enumerate(answers[:k], start=1):
        if answer == label:
            hits += 1
            summed += hits / place
    first = 1.0 if answers and answers[0] == label else 0.0
    return first, hits / min(k, relevant), summed / min(k, relevant)


def measure(cases: Cases, k: int, **options: int):
    labels, answers, relevant = zip(*cases, strict=True)
    return measure_retrieval(answers, labels, relevant, k, **options)


@settings(max_examples=60, deadline=None)
@given(queries(), st.integers(1, 8))
def test_agrees_with_the_definitions_place_by_place(cases: Cases, k: int) -> None:
    counted = [case for case in cases if case[2] > 0]
    if not counted:
        with pytest.raises(UserError, match="found none among"):
            measure(cases, k)
        return
    found = measure(cases, k, resamples=20)
    assert found.without_relevant == len(cases) - len(counted)
    assert set(found.per_label) == {label for label, _, _ in counted}
    groups = {label: [case for case in counted if case[0] == label] for label in found.per_label}
    for quality, group in [(found.overall, counted), *((found.per_label[label], groups[label]) for label in groups)]:
        assert quality.queries == len(group)
        wanted = np.mean([by_hand(*case, k) for case in group], axis=0)
        estimates = (quality.precision_at_1, quality.recall_at_k, quality.map_at_k)
        assert [estimate.value for estimate in estimates] == pytest.approx(wanted)
        assert all(0 <= one.low <= one.value <= one.high <= 1 + 1e-12 for one in estimates)


def test_a_worked_example() -> None:
    found = measure([("a", ["b", "a", None, "a", "a"], 9)], 4)
    assert found.overall.precision_at_1.value == 0
    assert found.overall.recall_at_k.value == 2 / 4
    assert found.overall.map_at_k.value == (1 / 2 + 2 / 4) / 4


def test_recall_can_reach_one_with_fewer_relevant_rows_than_k() -> None:
    found = measure([("a", ["a", "a", "b"], 2)], 3)
    assert found.overall.recall_at_k.value == 1
    assert found.overall.map_at_k.value == 1


def test_interval_of_a_share_agrees_with_the_normal_approximation() -> None:
    found = measure([("a", ["a" if number % 4 else "b"], 1) for number in range(400)], 1, resamples=4_000)
    half_width = 1.96 * math.sqrt(0.75 * 0.25 / 400)
    assert found.overall.precision_at_1.low == pytest.approx(0.75 - half_width, abs=0.006)
    assert found.overall.precision_at_1.high == pytest.approx(0.75 + half_width, abs=0.006)


def test_intervals_follow_the_seed_alone() -> None:
    cases = [("a", ["a" if number % 3 else "b"], 1) for number in range(50)]
    assert measure(cases, 1, seed=7) == measure(cases, 1, seed=7)
    assert measure(cases, 1, seed=7) != measure(cases, 1, seed=8)


def test_samples_drawn_in_several_rounds_are_all_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [("a", ["a" if number % 3 else "b"], 1) for number in range(50)]
    at_once = measure(cases, 1, resamples=101)
    monkeypatch.setattr("index_builder.search.retrieval_quality._DRAWN_AT_ONCE", 120)
    assert measure(cases, 1, resamples=101) == at_once


def test_confusions_are_ranked_and_name_their_queries() -> None:
    cases: list[tuple[str, list[str | None], int]] = [
        ("a", ["b", "a"], 1),
        ("a", ["c"], 1),
        ("a", ["b"], 1),
        ("b", ["b"], 1),
        ("c", [], 1),
    ]
    cases += [("a", ["b"], 1), ("b", [None], 1), ("d", ["a"], 0)]
    found = measure(cases, 5, most_examples=2)
    assert [(one.label, one.found, one.count, one.examples) for one in found.confusions] == [
        ("a", "b", 3, (0, 2)),
        ("a", "c", 1, (1,)),
        ("b", None, 1, (6,)),
    ]
    assert len(measure(cases, 5, most_confusions=1).confusions) == 1


def test_to_dict_is_json() -> None:
    found = measure([("a", ["b"], 1), ("b", ["b"], 2), ("c", [], 0)], 2).to_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["k"], found["queries"], found["without_relevant"]) == (2, 2, 1)
    assert found["per_label"]["b"]["recall_at_k"] == {"value": 0.5, "low": 0.5, "high": 0.5}
    assert found["confusions"] == [{"label": "a", "found": "b", "count": 1, "examples": [0]}]


@pytest.mark.parametrize(
    ("answers", "relevant", "k", "message"),
    [
        ([["a"]], [1], 0, "k: expected a whole number from 1, found 0"),
        ([["a"], ["a"]], [1], 1, "found 2, 1 and 1"),
        ([["a", "a"]], [1], 2, "query 0: expected at most its 1 relevant rows, found 2"),
        ([["a"]], [0], 1, "query 0: expected at most its 0 relevant rows, found 1"),
    ],
)
def test_contradictions_are_refused(answers: list[list[str]], relevant: list[int], k: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measure_retrieval(answers, ["a"], relevant, k)
