"""A local store, with something gone wrong at every operation on files that an act makes."""

from __future__ import annotations

import pytest

from tests.support.children import FAIL, FAIL_ON, INTERRUPT, KILL, AtStep, Child
from tests.support.places import fill, local_places
from tests.support.store_acts import ACTS, check_course, check_finished
from tests.support.tally import RunCounts

pytestmark = pytest.mark.slow

LEAST_STEPS = {"replace": 2, "upload": 2, "weights": 2, "commit a snapshot": 2, "commit a version": 2,
               "publish the first": 4, "publish": 4, "rollback": 6, "prune": 30}  # fmt: skip


def at_every_step(act, what, course, tmp_path):
    """Runs the act once for each of its steps; yields the step and how the act ended, for the caller to look."""
    new_place, number = local_places(tmp_path), 0
    while True:
        place = new_place()
        fill(place, course.start)
        ended = Child(act, place.uri, {}, AtStep(number, what)).wait()
        if len(ended.steps) <= number and ended.code == 0:
            assert not ended.error, ended.error
            return
        yield number, ended, place
        number += 1


@pytest.mark.parametrize("what", [KILL, FAIL, FAIL_ON, INTERRUPT])
@pytest.mark.parametrize("act", ACTS)
def test_whatever_happens_at_any_step_current_names_a_whole_version_and_the_next_attempt_succeeds(
    act, what, course, tmp_path
):
    tally = RunCounts(f"{act}: {what} at every file operation")
    for number, ended, place in at_every_step(act, what, course(act), tmp_path):
        with tally.case(f"step {number} ({ended.steps[-1:]})"):
            assert ended.code == (-9 if what == KILL else 0)
            assert not ended.error.startswith("Traceback"), ended.error
            check_course(course(act), place, done=ended.done)
            check_finished(course(act), place)
    tally.finish(LEAST_STEPS[act])
