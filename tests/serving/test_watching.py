"""When the watcher looks: by itself, when told to, and in every process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from serving.watcher import Watcher
from store.errors import StoreError
from tests.support.fake_time import FakeTime
from tests.support.publications import ONE, THREE, TWO, Publications, published


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
