"""Two runs, one stopped at each of its steps and woken after the other, or a person, has published."""

from __future__ import annotations

import datetime
import fcntl
import functools
import itertools
import tempfile
import threading
from concurrent.futures import Future

import pytest

from store.location import Store
from store.process import utc_now
from tests.support import exact_reindex
from tests.support.children import HOLD, AtStep, Child
from tests.support.places import LocalPlace, bucket_of, content_of, fill, local_places
from tests.support.proxy import Fault
from tests.support.store_acts import check_whole
from tests.support.store_api import published, roll_back
from tests.support.tally import RunCounts

RUN = "tests.support.exact_reindex:reindex"
LOCK = "locks/reindex.json"
UNDER_WAY = Fault("", "before")  # passed on once the other has published


@pytest.fixture(scope="module")
def two_versions(tmp_path_factory):
    """The files of a store in which two runs have published, the second's version over the first's."""
    folder = tmp_path_factory.mktemp("two") / "store"
    for _ in range(2):
        ended = Child(RUN, str(folder), {}).wait()
        assert (ended.code, ended.error) == (0, "")
    return {path: data for path, data in content_of(LocalPlace(folder)).items() if not path.startswith("locks/")}


@pytest.fixture(autouse=True)
def own_copies(tmp_path, monkeypatch):
    """Copies of versions, which runs make of object stores, die with the test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def another_run(store):
    """A run on a machine whose clock says that the first one's lease is over."""
    exact_reindex.reindex(store, clock=lambda: utc_now() + datetime.timedelta(minutes=10))


def a_person(store):
    """Takes back what is published."""
    roll_back(store, None)


def has_begun(place):
    """Whether a run holds the lease, or has held it, since the store was filled."""
    return LOCK in place.sizes()


def is_seen(step, before):
    """Whether a run that is held there differs, for anybody else, from one that is held at the step before."""
    own = step.startswith(("os.fsync", "os.mkdir", "create_dir")) or (
        ".tmp" in step and not step.startswith("os.rename")
    )
    return step != before and not own and "/shard-" not in step


def is_asked(request, before):
    """As `is_seen`, for a request: none that only reads a file that nobody writes twice."""
    method, _, path = request.partition(" ")
    mutable = any(name in path for name in ("CURRENT", "locks", "list-type", "o?"))
    if "/runs" in path or "building.json" in path or "shard-" in path:
        return False  # a run's own
    return request != before and (method not in ("GET", "HEAD") or mutable)


def chosen(steps, is_worth_it):
    """The numbers and names of the steps to be held at."""
    pairs = enumerate(itertools.pairwise(["", *steps]))
    return [(number, step) for number, (before, step) in pairs if is_worth_it(step, before)]


def hold_local(place, number):
    """Starts a run that is held at that operation on files, and what lets it go on."""
    child = Child(RUN, place.uri, environment_of_child(), AtStep(number, HOLD))
    child.wait_held()
    return child, child.release


def hold_remote(remote, place, number):
    """Starts a run that is stopped at that request, which is under way; and what lets both go on."""
    starting: Future[Child] = Future()
    stopped, go_on = threading.Event(), threading.Event()

    def hold():
        starting.result().stop()
        stopped.set()
        go_on.wait()

    remote.proxy.arm(bucket_of(place), number, UNDER_WAY, hold)
    child = Child(RUN, place.uri, {**remote.environment, **environment_of_child()})
    starting.set_result(child)
    while not stopped.wait(0.01):
        assert not child.has_ended, f"a request that is met in every run; {child.wait()}"

    def release():
        go_on.set()
        child.wake()

    return child, release


def environment_of_child():
    """With no copies of versions yet, so that each run asks for the same."""
    return {"TMPDIR": tempfile.mkdtemp()}


def is_locked(place):
    """Whether the run that is held keeps everybody else waiting: it has a file of a local disk locked."""
    if isinstance(place, LocalPlace):
        for guard in place.folder.rglob("*.guard"):
            with open(guard, "rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return True
    return False


def meet(place, child, release, other, strict):
    """One run is held, the other publishes, the first goes on."""
    begun, store = has_begun(place), Store(place.uri)
    if is_locked(place):
        release()
        assert child.wait().code == 0
        other(store)
        check_whole(place)
        return
    try:
        other(store)
        stands = published(store)
    finally:
        release()
        ended = child.wait()
    assert ended.code == 0
    assert not ended.error.startswith("Traceback"), ended.error
    now = check_whole(place)
    if begun or strict:
        assert now == stands, f"{now} is published over {stands}: {ended.error or 'the run says that all is well'}"


OTHERS = {"another run": (another_run, False), "a person's rollback": (a_person, True)}


def meet_everywhere(what, two_versions, new_place, hold, steps, least):
    """One run held at each of the steps."""
    other, strict = OTHERS[what]
    tally = RunCounts(f"{what} meanwhile")
    for number, step in steps:
        place = new_place()
        fill(place, two_versions)
        with tally.case(f"held at {number} ({step})"):
            child, release = hold(place, number)
            meet(place, child, release, other, strict)
    tally.finish(least)


@pytest.mark.slow
@pytest.mark.parametrize("other", OTHERS)
def test_on_a_local_disk_nothing_older_is_published_over_what_came_meanwhile(other, two_versions, tmp_path):
    new_place = local_places(tmp_path)
    place = new_place()
    fill(place, two_versions)
    clean = Child(RUN, place.uri, environment_of_child(), AtStep(-1, HOLD)).wait()
    assert clean.error == ""
    meet_everywhere(other, two_versions, new_place, hold_local, chosen(clean.steps, is_seen), 50)


@pytest.mark.slow
@pytest.mark.parametrize("other", OTHERS)
def test_on_an_object_store_nothing_older_is_published_over_what_came_meanwhile(other, two_versions, remote):
    place = remote.new_place()
    fill(place, two_versions)
    watch = remote.proxy.arm(bucket_of(place))
    clean = Child(RUN, place.uri, {**remote.environment, **environment_of_child()}).wait()
    assert clean.error == ""
    hold = functools.partial(hold_remote, remote)
    meet_everywhere(other, two_versions, remote.new_place, hold, chosen(watch.requests, is_asked), 30)
