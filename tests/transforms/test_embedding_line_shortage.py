"""The line where the process runs short of memory, threads or disk."""

from __future__ import annotations

import errno
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from encoder.decode import Picture
from fetch.source_version import Fetched
from store.errors import StoreError
from store.shortage import ShortageError
from tests.support.embedding_line import LIMITS, decode_number, fetch_number, run_line
from tests.support.fakes import FakeEncoder
from transforms.brake import Brake
from transforms.embedding_line import EmbeddingLine
from transforms.picture_outcomes import EmbeddedPicture, RefusedPicture


def _embedded(outcomes: list) -> list[int]:
    return sorted(int(outcome.job.image_uri) for outcome in outcomes if isinstance(outcome, EmbeddedPicture))


GOOD = [number for number in range(40) if number % 7 != 3 and number % 5 != 4]


@pytest.mark.parametrize("broken", ["fetch", "decode"])
@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "x"), OSError(errno.ENOSPC, "x"), MemoryError()], ids=repr)
def test_a_shortage_that_passes_costs_no_picture(broken, error):
    failures = {"fetch": 7, "decode": 7}  # one less than a picture is tried
    lock = threading.Lock()

    def maybe_fail(step: str) -> None:
        with lock:
            failures[step] -= 1
            if step == broken and failures[step] >= 0:
                raise error

    def fetch(uri: str, known: str) -> Fetched | None:
        maybe_fail("fetch")
        return fetch_number(uri, known)

    def decode(data: bytes) -> Picture:
        maybe_fail("decode")
        return decode_number(data)

    line = EmbeddingLine(fetch, decode, lambda: FakeEncoder(4), LIMITS, pause=lambda seconds: None)
    try:
        assert _embedded(run_line(line, range(40))) == GOOD
    finally:
        line.close()


def test_a_picture_that_asks_for_all_memory_keeps_what_it_had_and_stops_nobody():
    def decode(data: bytes) -> Picture:
        if data == b"5":
            raise MemoryError
        return decode_number(data)

    line = EmbeddingLine(fetch_number, decode, lambda: FakeEncoder(4), LIMITS, pause=lambda seconds: None)
    try:
        outcomes = run_line(line, range(40))
    finally:
        line.close()
    assert _embedded(outcomes) == [number for number in GOOD if number != 5]
    (refused,) = (outcome for outcome in outcomes if outcome.job.image_uri == "5")
    assert isinstance(refused, RefusedPicture)
    assert refused.passing
    assert "memory" in refused.detail


@pytest.mark.parametrize("broken", ["fetch", "decode"])
def test_a_shortage_that_lasts_ends_the_run_in_one_line(broken, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(Brake.__init__, "__kwdefaults__", {"is_short": lambda lack: True})
    line = EmbeddingLine(
        fail if broken == "fetch" else fetch_number,
        fail if broken == "decode" else decode_number,  # type: ignore[arg-type]
        lambda: FakeEncoder(4),
        LIMITS,
        pause=lambda seconds: None,
    )
    try:
        with pytest.raises(ShortageError, match="ulimit -n"):
            run_line(line, range(40))
    finally:
        line.close()


def test_a_model_without_memory_ends_the_run_in_one_line():
    def load() -> FakeEncoder:
        raise MemoryError

    line = EmbeddingLine(fetch_number, decode_number, load, LIMITS)
    try:
        with pytest.raises(ShortageError, match="no memory left"):
            run_line(line, range(40))
    finally:
        line.close()


def test_threads_that_cannot_be_started_are_done_without(monkeypatch):
    submit = ThreadPoolExecutor.submit

    def one_thread(pool, work, *arguments):
        """Queues the work before it starts a thread for it, as the standard library does."""
        future = submit(pool, work, *arguments)
        if work is not int:
            raise RuntimeError("can't start new thread")
        return future

    monkeypatch.setattr(ThreadPoolExecutor, "submit", one_thread)
    line = EmbeddingLine(fetch_number, decode_number, lambda: FakeEncoder(4), LIMITS)
    try:
        assert _embedded(run_line(line, range(40))) == GOOD
    finally:
        line.close()


def test_not_one_thread_ends_the_run_in_one_line(monkeypatch):
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(ShortageError, match="no more threads"):
        EmbeddingLine(fetch_number, decode_number, lambda: FakeEncoder(4), LIMITS)


def test_a_full_store_ends_the_run_and_rejects_nothing():
    def find_known(digest: str) -> int | None:
        raise StoreError("cannot write s: no space left on device; free some space or choose another --store")

    line = EmbeddingLine(fetch_number, decode_number, lambda: FakeEncoder(4), LIMITS, find_known)
    try:
        with pytest.raises(StoreError, match="choose another --store"):
            run_line(line, range(10))
    finally:
        line.close()
