"""Which settings of a version another build takes over, and which versions it does not start from."""

from __future__ import annotations

import dataclasses
import types
from typing import Any

import pytest

from index_builder.build.plan import plan_index
from index_builder.build.previous_version import StartAnew, check_comparable, near_trials
from index_builder.build.tuning import Trial
from index_builder.search.engine import Settings
from store.measured import read_config

PLAN = plan_index(2_000_000, 256, 8 << 30, 0.95, cpus=4)
ENCODER = {"fingerprint": "one", "embedding_dim": 256}


def trial(candidates: int, recall: float, latency_ms: float, dimensions: int = PLAN.dimensions[0]) -> Trial:
    return Trial(dimensions, Settings(3, 100, candidates, 10), recall, latency_ms)


CHOSEN = trial(50, 0.96, 5.0)


def manifest_of(trials: list[Trial], **config: Any) -> Any:
    """What these functions read of a manifest."""
    shape = {"kind": PLAN.kind, "shards": PLAN.shards, "leaves": PLAN.leaves, "training_rows": 1000}
    settings = dataclasses.asdict(CHOSEN.settings)
    full = read_config({**shape, "dimensions": CHOSEN.dimensions, **settings, **config})
    recall = types.SimpleNamespace(k=10, target=0.95, trials=tuple(one.to_point() for one in trials))
    return types.SimpleNamespace(version="v1", encoder=ENCODER, config=full, recall=recall, meets_target=True)


def near(trials: list[Trial]) -> list[int]:
    """Candidates of the trials that are taken over."""
    manifest = manifest_of(trials)
    return [one.settings.candidates for one in near_trials(manifest, manifest.config)]


def test_the_next_faster_and_the_next_better_settings_come_with_the_chosen() -> None:
    front = [trial(number, 0.90 + number / 1000, number / 10) for number in (10, 20, 30, 40)]
    better = [trial(number, 0.90 + number / 900, number / 10) for number in (60, 70, 80, 90)]
    beaten, foreign = trial(45, 0.5, 9.0), trial(45, 0.99, 0.1, dimensions=PLAN.dimensions[0] + 1)
    assert near([*better, beaten, foreign, CHOSEN, *front]) == [30, 40, 50, 60, 70, 80]


def test_the_chosen_settings_stay_though_others_beat_them() -> None:
    assert near([CHOSEN, trial(60, 0.99, 4.0)]) == [60, 50]


def test_settings_that_were_not_tried_are_no_start() -> None:
    with pytest.raises(StartAnew, match="version v1 does not list its own settings among those it tried"):
        near([trial(60, 0.99, 4.0)])


def test_a_version_of_the_same_kind_encoder_target_and_size_is_comparable() -> None:
    manifest = manifest_of([CHOSEN])
    assert check_comparable(manifest, PLAN, ENCODER, 10, 0.95) == manifest.config


@pytest.mark.parametrize(
    ("config", "asked", "said"),
    [
        ({}, {"encoder": {"fingerprint": "two"}}, "is of encoder one, this one is of encoder two"),
        ({"kind": "exact"}, {}, "is of kind exact, this one is of kind "),
        ({}, {"k": 11}, "is of k 10, this one is of k 11"),
        ({}, {"target": 0.9}, r"is of target 0\.95, this one is of target 0\.9"),
        ({"dimensions": 7}, {}, "7 projected dimensions are not among "),
        ({"shards": PLAN.shards + 1}, {}, f"its {PLAN.shards + 1} shards have become {PLAN.shards}, "),
        ({"leaves": 100 * PLAN.leaves}, {}, f"its shards have {100 * PLAN.leaves} leaves, and {PLAN.leaves} suit "),
    ],
)
def test_a_version_made_for_something_else_is_no_start(
    config: dict[str, Any], asked: dict[str, Any], said: str
) -> None:
    given = {"encoder": ENCODER, "k": 10, "target": 0.95, **asked}
    with pytest.raises(StartAnew, match=said):
        check_comparable(manifest_of([CHOSEN], **config), PLAN, **given)


def test_a_version_that_missed_its_own_target_is_no_start() -> None:
    manifest = manifest_of([CHOSEN])
    manifest.meets_target = False
    with pytest.raises(StartAnew, match="version v1 did not reach its own target"):
        check_comparable(manifest, dataclasses.replace(PLAN), ENCODER, 10, 0.95)
