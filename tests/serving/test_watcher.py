"""Which version is served: swaps, refusals, second tries, and the old one's end."""

from __future__ import annotations

import gc
import time
import weakref

import pytest
from prometheus_client import REGISTRY

from serving.watcher import RefusedVersion, Watcher
from store.errors import StoreError, UserError
from tests.support.publications import ONE, POLL_S, THREE, TWO, published


def sample(name: str, **labels: str) -> float:
    value = REGISTRY.get_sample_value(f"shelfmark_{name}", labels)
    assert value is not None
    return value


def index_info(name: str) -> float:
    return sample("index_info", version=name, snapshot=name, encoder="ResNet50", precision="")


def test_the_first_version_is_served_and_told(publications, log):
    watcher = Watcher(published(ONE), publications.read, publications.open, poll_interval_s=POLL_S)
    assert (watcher.current.version, watcher.refused) == (ONE, None)
    (record,) = log.records
    assert record.getMessage() == "opened"
    told = vars(record)
    assert (told["version"], told["snapshot"], told["vectors"], told["recall"]) == (ONE, ONE, 1234, 0.97)
    assert (told["warm_up_s"], told["pictures"], told["untrained"]) == (0.5, False, False)
    assert index_info(ONE) == 1
    assert sample("index_vectors") == 1234
    assert sample("index_recall") == 0.97
    assert sample("index_loaded_timestamp_seconds") == pytest.approx(time.time(), abs=60)
    watcher.stop()  # one that never began ends as well


def test_another_version_takes_the_place_of_the_first(watcher, publications, log):
    swapped, timed = sample("swaps_total", outcome="swapped"), sample("swap_seconds_count")
    first = watcher.current
    publications.current = TWO
    assert watcher.look()
    assert (watcher.current.version, first.version) == (TWO, ONE)
    assert publications.opened == [TWO]
    assert sample("swaps_total", outcome="swapped") == swapped + 1
    assert sample("swap_seconds_count") == timed + 1
    assert (index_info(ONE), index_info(TWO)) == (0, 1)
    assert log.events() == ["opened"]


def test_nothing_is_opened_while_current_names_what_is_served(watcher, publications):
    assert not watcher.look()
    assert not watcher.reload()
    assert publications.opened == []


def test_a_refused_version_leaves_the_one_before_and_says_why(watcher, publications, log):
    refused = sample("swaps_total", outcome="refused")
    publications.current = TWO
    publications.broken[TWO] = StoreError("two\n lines")
    assert not watcher.look()
    assert watcher.current.version == ONE
    assert watcher.refused == RefusedVersion(TWO, "two lines")
    assert sample("version_refused") == 1
    assert sample("swaps_total", outcome="refused") == refused + 1
    (record,) = log.records
    told = vars(record)
    assert (record.getMessage(), record.levelname) == ("refused", "ERROR")
    assert (told["version"], told["reason"], told["serving"]) == (TWO, "two lines", ONE)


def test_a_refused_version_is_tried_again_after_times_that_double_up_to_ten_minutes(watcher, publications, fake_time):
    publications.current = TWO
    publications.broken[TWO] = UserError("out of reach")
    assert not watcher.look()
    waits_s = []
    for tries in range(2, 11):
        started_s = fake_time.now_s
        while len(publications.opened) < tries:
            fake_time.sleep(POLL_S / 2)
            watcher.look()
        waits_s.append(fake_time.now_s - started_s)
    assert waits_s == [10, 20, 40, 80, 160, 320, 600, 600, 600]


def test_who_insists_does_not_wait(watcher, publications):
    publications.current = TWO
    publications.broken[TWO] = StoreError("damaged")
    for _ in range(3):
        assert not watcher.look()
    assert not watcher.reload()
    assert publications.opened == [TWO, TWO]
    publications.broken.clear()
    assert not watcher.look()
    assert watcher.reload()
    assert (watcher.current.version, watcher.refused, sample("version_refused")) == (TWO, None, 0)


def test_another_name_is_tried_at_once_and_begins_with_a_short_wait(watcher, publications, fake_time):
    publications.broken = {TWO: StoreError("damaged"), THREE: StoreError("damaged too")}
    publications.current = TWO
    watcher.look()
    watcher.reload()
    publications.current = THREE
    watcher.look()
    assert publications.opened == [TWO, TWO, THREE]
    assert watcher.refused == RefusedVersion(THREE, "damaged too")
    fake_time.sleep(POLL_S)
    watcher.look()
    assert publications.opened == [TWO, TWO, THREE, THREE]


def test_back_to_what_is_served_there_is_nothing_refused(watcher, publications, fake_time):
    publications.current = TWO
    publications.broken[TWO] = StoreError("damaged")
    watcher.look()
    watcher.reload()
    publications.current = ONE
    assert not watcher.look()
    assert (watcher.refused, sample("version_refused")) == (None, 0)
    publications.current = TWO  # and it is as if it had never been tried
    watcher.look()
    fake_time.sleep(POLL_S)
    watcher.look()
    assert publications.opened == [TWO] * 4


@pytest.mark.parametrize(
    ("current", "reason"),
    [
        (None, "expected a published version, found none; CURRENT is gone"),
        (StoreError("CURRENT: expected one line"), "CURRENT: expected one line"),
    ],
)
def test_without_current_the_version_in_use_goes_on(watcher, publications, current, reason):
    publications.current = current
    assert not watcher.look()
    assert watcher.current.version == ONE
    assert watcher.refused == RefusedVersion("", reason)
    publications.current = TWO
    assert watcher.look()
    assert (watcher.current.version, watcher.refused) == (TWO, None)


@pytest.mark.parametrize(("error", "reason"), [(ZeroDivisionError(), "ZeroDivisionError"), (OSError("disk"), "disk")])
def test_what_nobody_expected_is_logged_with_its_traceback_and_refused(watcher, publications, log, error, reason):
    publications.current = TWO
    publications.broken[TWO] = error
    assert not watcher.look()
    assert watcher.refused == RefusedVersion(TWO, reason)
    assert log.events() == ["unexpected", "refused"]
    assert log.records[0].exc_info
    publications.broken.clear()
    assert watcher.reload()


def test_an_expected_refusal_needs_no_traceback(watcher, publications, log):
    publications.current = TWO
    publications.broken[TWO] = UserError("no such version")
    watcher.look()
    assert log.events() == ["refused"]


def test_the_old_version_goes_with_the_last_request_that_holds_it(watcher, publications, log):
    request_holds = watcher.current
    left = weakref.ref(request_holds)
    gc.collect()
    gc.disable()
    try:
        publications.current = TWO
        assert watcher.look()
        assert left() is not None
        assert "closed" not in log.events()
        del request_holds
        assert left() is None
    finally:
        gc.enable()
    assert vars(log.records[-1])["version"] == ONE
    assert log.events() == ["opened", "closed"]
