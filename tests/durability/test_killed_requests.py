"""Stores on s3:// and gs://, whose client is killed or interrupted at every request that an act makes."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from tests.support.children import Child
from tests.support.places import bucket_of, fill
from tests.support.proxy import NO_FAULT, Fault, changes_nothing
from tests.support.store_acts import ACTS, check_course, check_finished
from tests.support.tally import RunCounts

pytestmark = pytest.mark.slow

KILLED_BEFORE, KILLED_AFTER = Fault("dropped", "before"), Fault("dropped", "after")
PENDING = Fault("", "after")  # carried out; the answer waits until the signal has arrived
HAPPENINGS = {
    "killed before": (KILLED_BEFORE, Child.kill),
    "killed after": (KILLED_AFTER, Child.kill),
    "interrupted at": (PENDING, Child.interrupt),
}


def run_with(remote, act, course, number, fault, happening):
    """Runs the act in a process of its own; the happening befalls it at that request."""
    place = remote.new_place()
    fill(place, course.start)
    child: Future[Child] = Future()
    watch = remote.proxy.arm(bucket_of(place), number, fault, lambda: happening(child.result()))
    child.set_result(Child(act, place.uri, remote.environment))
    ended = child.result().wait()
    remote.proxy.disarm(bucket_of(place))
    return place, ended, watch


# Of a prune's hundred requests, killed before each is enough: killed after one is killed before the next.
CASES = [(act, happening) for act in ACTS for happening in HAPPENINGS if act != "prune" or happening == "killed before"]


@pytest.mark.parametrize(("act", "happening"), CASES)
def test_current_names_a_whole_version_and_the_next_attempt_succeeds(act, happening, course, remote):
    tally = RunCounts(f"{act}: {happening} every request")
    fault, befall = HAPPENINGS[happening]
    _, ended, clean = run_with(remote, act, course(act), -1, NO_FAULT, befall)
    assert (ended.code, ended.error) == (0, "")
    for number, request in enumerate(clean.requests):
        if fault == KILLED_AFTER and changes_nothing(request):
            continue  # the store cannot tell it from a kill before the next
        place, ended, watch = run_with(remote, act, course(act), number, fault, befall)
        with tally.case(f"request {number} ({request})"):
            assert watch.met
            assert ended.code == (-9 if befall is Child.kill else 0)
            assert not ended.error.startswith("Traceback"), ended.error
            check_course(course(act), place, done=ended.done)
            check_finished(course(act), place)
    tally.finish()
