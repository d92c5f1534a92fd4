"""Which version is served: swaps, refusals, second tries, and the old one's end."""

from __future__ import annotations

import gc
import logging
import threading
import time
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prometheus_client import REGISTRY

from serving.logs import LOG
from serving.published import ServedVersion
from serving.watcher import RefusedVersion, Watcher
from store.errors import StoreError, UserError
from tests.support.fake_time import FakeTime
from tests.support.versions import name_of, version_manifest

POLL_S = 10.0
ONE, TWO, THREE = name_of(1), name_of(2), name_of(3)


def published(name: str) -> ServedVersion:
    """A version without an index."""
    day = int(name[6:8])
    pictures: Any = None
    searcher: Any = types.SimpleNamespace(version=name, manifest=version_manifest(day, day, 0.97))
    return ServedVersion(searcher, None, [], pictures, 0.5)


class Publications:
    """What CURRENT names, and what opening a version leads to."""

    def __init__(self) -> None:
        self.current: str | Exception | None = ONE
        self.broken: dict[str, Exception] = {}
        self.opened: list[str] = []
        self.event = threading.Event()

    def read(self) -> str | None:
        if isinstance(self.current, Exception):
            raise self.current
        return self.current

    def open(self, version: str, before: ServedVersion) -> ServedVersion:
        assert before.version != version
        self.opened.append(version)
        self.event.set()
        if version in self.broken:
            raise self.broken[version]
        return published(version)


class Log(logging.Handler):
    """Keeps the server's own messages."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def events(self) -> list[str]:
        return [record.getMessage() for record in self.records]


@pytest.fixture
def log() -> Iterator[Log]:
    handler, level = Log(), LOG.level
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    yield handler
    LOG.removeHandler(handler)
    LOG.setLevel(level)


@pytest.fixture
def publications() -> Publications:
    return Publications()


@pytest.fixture
def fake_time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def watcher(publications: Publications, fake_time: FakeTime) -> Watcher:
    """One that looks only when a test says so."""
    return Watcher(published(ONE), publications.read, publications.open, poll_interval_s=POLL_S, clock=fake_time.clock)


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


def watching(publications: Publications, **options: Any) -> Watcher:
    return Watcher(published(ONE), publications.read, publications.open, **options)


def until(holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < end_s, "it never came to hold"
        time.sleep(0.001)


def test_it_looks_by_itself_and_stops_when_told(publications):
    watcher = watching(publications, poll_interval_s=0.005)
    watcher.start()
    publications.current = TWO
    until(lambda: watcher.current.version == TWO)
    watcher.stop()
    assert watcher.current.version == TWO
    assert not [thread for thread in threading.enumerate() if thread.name == "watch"]


def test_between_its_times_it_does_not_look(publications, fake_time, tmp_path):
    looks = threading.Semaphore(0)

    def clock() -> float:
        looks.release()  # the thread asks for the time at every turn
        return fake_time.now_s

    reads: list[float] = []

    def read() -> str:
        reads.append(fake_time.now_s)
        return ONE

    watcher = Watcher(
        published(ONE), read, publications.open, poll_interval_s=0.005, sign=tmp_path / "sign", clock=clock
    )
    watcher.start()
    for _ in range(5):
        assert looks.acquire(timeout=120)
    assert reads == []
    fake_time.now_s += 0.005
    until(lambda: bool(reads))
    watcher.stop()


def test_told_in_one_process_the_watchers_of_the_others_look_as_well(publications, tmp_path):
    sign = tmp_path / "reload"
    stopped = FakeTime()  # the time to look by themselves never comes
    others = [watching(publications, poll_interval_s=0.01, sign=sign, clock=stopped.clock) for _ in range(2)]
    for other in others:
        other.start()
    told = watching(publications, poll_interval_s=0.01, sign=sign, clock=stopped.clock)

    def tell_until(holds: Callable[[Watcher], bool]) -> None:
        """Again and again: a file's time moves in steps, and a thread that has just begun may not know it yet."""

        def have_heard() -> bool:
            told.reload()
            return all(map(holds, others))

        until(have_heard)

    try:
        publications.current = TWO
        assert told.reload()
        tell_until(lambda other: other.current.version == TWO)
        publications.current = THREE
        publications.broken[THREE] = StoreError("damaged")
        assert not told.reload()
        tell_until(lambda other: other.refused is not None)
        publications.broken.clear()
        tell_until(lambda other: other.current.version == THREE)  # though its time had not come
    finally:
        for other in others:
            other.stop()
