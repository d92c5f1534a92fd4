"""Stores on s3:// and gs:// whose server fails, loses answers, cuts them short or goes away, at every request."""

from __future__ import annotations

import datetime
import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow.fs
import pytest

from store import conditional, filesystem, objects
from store.errors import StoreError
from store.location import Store
from tests.durability.conftest import forget_clients
from tests.support.faulty_proxy import FAULTS
from tests.support.places import bucket_of, fill
from tests.support.proxy import NO_FAULT, Fault, changes_nothing
from tests.support.store_acts import ACTS, check_course, check_finished
from tests.support.tally import RunCounts

pytestmark = pytest.mark.slow

TRUNCATED = Fault("truncated", "after")
ONCE = (*FAULTS, TRUNCATED)
WHEN = {
    "once": "at every request",
    "same": "at every request each time that it is sent",
    "all": "from every request on",
}
FOR_EVER = (Fault("500", "before"), Fault("dropped", "before"), Fault("500", "after"))


@pytest.fixture
def faulty(remote, monkeypatch):
    """The same store with this process behind the proxy, its clients' retries as many as ever, but without pauses."""
    for name, value in remote.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda self, context: 0)
    # Its first retry comes at once, the standard strategy's within a second.
    monkeypatch.setattr(pyarrow.fs, "AwsStandardS3RetryStrategy", pyarrow.fs.AwsDefaultS3RetryStrategy)
    retry: Any = pytest.importorskip("google.cloud.storage.retry").DEFAULT_RETRY
    monkeypatch.setattr(retry, "_initial", 0.001)
    monkeypatch.setattr(retry, "_maximum", 0.001)
    forget_clients()
    return remote


@pytest.fixture
def impatient(faulty, monkeypatch):
    """The same with clients that soon give up."""
    for module in (filesystem, objects, conditional):
        monkeypatch.setattr(module, "_ATTEMPTS", 2)
    monkeypatch.setattr(filesystem, "_RETRY_FOR", datetime.timedelta(milliseconds=30))
    monkeypatch.setattr("google.cloud.storage.retry.DEFAULT_RETRY._timeout", 0.03)
    forget_clients()
    return faulty


def run_with(remote, act, course, number, fault, lasting):
    """Runs the act with the fault at that request; whether it returned, and what was seen of its requests."""
    place = remote.new_place()
    fill(place, course.start)
    watch = remote.proxy.arm(bucket_of(place), number, fault, lasting=lasting)
    try:
        ACTS[act].run(Store(place.uri))
        error = None
    except StoreError as raised:
        error = raised
    remote.proxy.disarm(bucket_of(place))
    assert error is None or "\n" not in str(error)
    return place, error is None, watch


def tells_apart(fault, request):
    """Whether the fault of a request is another for the store than the same one before it was carried out."""
    return not changes_nothing(request) or fault == TRUNCATED or fault.when == "before"


def run_cases(remote, act, course, faults, lasting, only_changes=False):
    """Every fault at every request; side by side, as clients wait before they try again."""
    tally = RunCounts(f"{act}: {len(faults)} faults, {WHEN[lasting]}")
    _, done, clean = run_with(remote, act, course, -1, NO_FAULT, lasting)
    assert done

    cases = [
        (fault, number, request)
        for fault, (number, request) in itertools.product(faults, enumerate(clean.requests))
        if tells_apart(fault, request) and not (only_changes and changes_nothing(request))
    ]

    def run_case(case):
        fault, number, request = case
        with tally.case(f"{' '.join(fault)} {number} ({request})"):
            place, done, watch = run_with(remote, act, course, number, fault, lasting)
            assert watch.met
            assert done or lasting != "once", "an act that one fault ends"
            check_course(course, place, done=done)
            check_finished(course, place)

    with ThreadPoolExecutor(16) as at_once:
        for _ in at_once.map(run_case, cases):
            pass
    tally.finish()


@pytest.mark.parametrize("act", [act for act in ACTS if act != "prune"])
def test_a_request_that_fails_once_changes_nothing(act, course, faulty):
    run_cases(faulty, act, course(act), ONCE, "once")


@pytest.mark.parametrize("lasting", ["same", "all"])
@pytest.mark.parametrize("act", [act for act in ACTS if act != "prune"])
def test_what_fails_for_ever_leaves_a_whole_version(act, lasting, course, impatient):
    run_cases(impatient, act, course(act), FOR_EVER, lasting)


def test_a_prune_whose_deletions_lose_their_answers_is_done(course, faulty):
    run_cases(faulty, "prune", course("prune"), ONCE[1:2], "once", only_changes=True)


def test_a_prune_whose_deletions_fail_leaves_a_whole_version(course, impatient):
    run_cases(impatient, "prune", course("prune"), FOR_EVER[:1], "same", only_changes=True)
