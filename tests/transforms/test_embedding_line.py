from __future__ import annotations

import errno
import hashlib
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder.decode import Picture
from fetch.source_version import Fetched
from store.errors import StoreError
from store.rejects import Reason, Rejected
from store.shortage import ShortageError
from tests.support.fakes import FakeEncoder
from transforms import embedding_line as module
from transforms.brake import Brake
from transforms.embedding_line import EmbeddingLine, LineLimits
from transforms.picture_outcomes import EmbeddedPicture, PictureJob, RefusedPicture, SameContent, Unchanged

LIMITS = LineLimits(parallel_fetches=4, parallel_decodes=2, max_waiting_bytes=1000)


def _fetch(uri: str, known: str) -> Fetched | None:
    if int(uri) % 7 == 3:
        raise Rejected(Reason.NOT_FOUND, uri)
    return None if known else Fetched(uri.encode(), "v" + uri)


def _decode(data: bytes) -> Picture:
    number = int(data)
    if number % 5 == 4:
        raise Rejected(Reason.NOT_AN_IMAGE, str(number))
    return Picture(np.full((4, 4, 3), number % 256, np.uint8), number, 2)


def _run(line: EmbeddingLine, rows: range) -> list:
    outcomes = [outcome for index in rows for outcome in line.push(PictureJob(str(index)))]
    return outcomes + list(line.flush())


@settings(max_examples=25)
@given(st.integers(0, 90), st.integers(1, 9))
def test_every_row_comes_off_the_line_once(count, batch_size):
    encoder = FakeEncoder(batch_size)
    line = EmbeddingLine(_fetch, _decode, lambda: encoder, LIMITS)
    try:
        outcomes = _run(line, range(count))
    finally:
        line.close()
    assert sorted(int(outcome.job.image_uri) for outcome in outcomes) == list(range(count))
    for outcome in outcomes:
        number = int(outcome.job.image_uri)
        if number % 7 == 3:
            assert isinstance(outcome, RefusedPicture)
            assert outcome.reason is Reason.NOT_FOUND
        elif number % 5 == 4:
            assert isinstance(outcome, RefusedPicture)
            assert outcome.reason is Reason.NOT_AN_IMAGE
        else:
            assert isinstance(outcome, EmbeddedPicture)
            assert outcome.width == number
            np.testing.assert_allclose(outcome.embedding * outcome.norm, number % 256 + 1, rtol=1e-5)
    assert all(size == batch_size for size in encoder.batches[:-1]), "only the last batch may be small"


def test_the_line_can_be_used_again_after_a_flush():
    line = EmbeddingLine(_fetch, _decode, lambda: FakeEncoder(4), LIMITS)
    try:
        assert len(_run(line, range(10))) == 10
        assert len(_run(line, range(10, 31))) == 21
    finally:
        line.close()


def test_decodes_are_as_many_as_the_processors_where_the_line_is_started(monkeypatch):
    limits = pickle.loads(pickle.dumps(LineLimits()))  # made by the launcher, and sent to a worker
    monkeypatch.setattr(module, "processors", lambda: 3)
    for asked, decodes in ((limits, 3), (LineLimits(parallel_decodes=5), 5)):
        line = EmbeddingLine(_fetch, _decode, lambda: FakeEncoder(4), asked)
        try:
            assert len(_run(line, range(10))) == 10
        finally:
            line.close()
        assert line._decoding.allowed == line._decoders._max_workers == decodes


def test_rows_on_the_line_are_bounded():
    inside, most, lock = 0, 0, threading.Lock()

    def fetch(uri: str, known: str) -> Fetched:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        return Fetched(b"x" * 400, "")

    def decode(data: bytes) -> Picture:
        nonlocal inside
        with lock:
            inside -= 1
        return Picture(np.ones((4, 4, 3), np.uint8), 1, 1)

    line = EmbeddingLine(fetch, decode, lambda: FakeEncoder(4), LIMITS)
    try:
        assert len(_run(line, range(200))) == 200
    finally:
        line.close()
    # 1000 waiting bytes are 3 pictures; those whose fetch was under way when the limit was met come on top.
    assert most <= 3 + LIMITS.parallel_fetches + 1 + 4 * 3


def test_nothing_new_is_fetched_while_too_many_bytes_wait(monkeypatch):
    decoding, go = threading.Semaphore(0), threading.Event()
    pushed, full_at = 0, []

    def decode(data: bytes) -> Picture:
        decoding.release()
        assert go.wait(60)
        return Picture(np.ones((4, 4, 3), np.uint8), 1, 1)

    limits = LineLimits(parallel_fetches=8, parallel_decodes=8, max_waiting_bytes=1000)
    line = EmbeddingLine(lambda *_: Fetched(b"x" * 500, ""), decode, lambda: FakeEncoder(4), limits)
    plain = line._state.wait_for

    def wait_for(ready, timeout=None):
        if ready == line._has_room and not ready():
            full_at.append(pushed)
            go.set()
        return plain(ready, timeout)

    monkeypatch.setattr(line._state, "wait_for", wait_for)
    try:
        for pushed in range(5):
            line.push(PictureJob(str(pushed)))
            assert pushed > 2 or decoding.acquire(timeout=60)  # its bytes are counted, and wait until it is decoded
        assert full_at == [3], "1,000 bytes are not too many, 1,500 are; what came off the line made room again"
        go.set()
        assert len(list(line.flush())) == 5
    finally:
        go.set()
        line.close()


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_features_without_a_direction_are_refused(value):
    class Broken(FakeEncoder):
        def encode(self, pixels):
            features = super().encode(pixels)
            features[0] = value
            return features

    line = EmbeddingLine(lambda uri, known: Fetched(b"0", ""), _decode, lambda: Broken(3), LIMITS)
    try:
        outcomes = _run(line, range(3))
    finally:
        line.close()
    assert sorted(isinstance(outcome, RefusedPicture) for outcome in outcomes) == [False, False, True]
    assert next(outcome for outcome in outcomes if isinstance(outcome, RefusedPicture)).reason is Reason.NOT_FINITE


@pytest.mark.parametrize("broken", ["fetch", "decode", "encode", "load"])
def test_a_bug_anywhere_ends_the_run_and_not_the_wait(broken):
    def fail(*_: object) -> None:
        raise ZeroDivisionError(broken)

    encoder = FakeEncoder(2)
    if broken == "encode":
        encoder.encode = fail  # type: ignore[method-assign,assignment]
    line = EmbeddingLine(
        fail if broken == "fetch" else _fetch,
        fail if broken == "decode" else _decode,  # type: ignore[arg-type]
        fail if broken == "load" else lambda: encoder,  # type: ignore[arg-type]
        LIMITS,
    )
    try:
        with pytest.raises(ZeroDivisionError, match=broken):
            _run(line, range(50))
    finally:
        line.close()


def test_no_model_is_loaded_for_what_is_known():
    def load() -> FakeEncoder:
        raise AssertionError("expected no picture to need the model")

    def find_known(digest: str) -> int | None:
        return int(digest[:4], 16)

    line = EmbeddingLine(_fetch, _decode, load, LIMITS, find_known)
    jobs = [PictureJob(str(index), "known" if index % 2 else "") for index in range(60)]
    try:
        outcomes = [outcome for job in jobs for outcome in line.push(job)] + list(line.flush())
    finally:
        line.close()
    assert len(outcomes) == 60
    for outcome in outcomes:
        number = int(outcome.job.image_uri)
        if number % 7 == 3:
            assert isinstance(outcome, RefusedPicture)
        elif number % 2:
            assert outcome == Unchanged(outcome.job)
        else:
            digest = hashlib.sha256(str(number).encode()).hexdigest()
            assert outcome == SameContent(outcome.job, f"v{number}", digest, int(digest[:4], 16))


def test_a_failure_that_may_pass_is_known_as_one():
    def fetch(uri: str, known: str) -> Fetched:
        raise Rejected(Reason.TIMEOUT, uri, passing=uri == "1")

    line = EmbeddingLine(fetch, _decode, lambda: FakeEncoder(4), LIMITS)
    try:
        outcomes = _run(line, range(2))
    finally:
        line.close()
    assert {outcome.job.image_uri: outcome.passing for outcome in outcomes} == {"0": False, "1": True}


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
        return _fetch(uri, known)

    def decode(data: bytes) -> Picture:
        maybe_fail("decode")
        return _decode(data)

    line = EmbeddingLine(fetch, decode, lambda: FakeEncoder(4), LIMITS, pause=lambda seconds: None)
    try:
        assert _embedded(_run(line, range(40))) == GOOD
    finally:
        line.close()


def test_a_picture_that_asks_for_all_memory_keeps_what_it_had_and_stops_nobody():
    def decode(data: bytes) -> Picture:
        if data == b"5":
            raise MemoryError
        return _decode(data)

    line = EmbeddingLine(_fetch, decode, lambda: FakeEncoder(4), LIMITS, pause=lambda seconds: None)
    try:
        outcomes = _run(line, range(40))
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
        fail if broken == "fetch" else _fetch,
        fail if broken == "decode" else _decode,  # type: ignore[arg-type]
        lambda: FakeEncoder(4),
        LIMITS,
        pause=lambda seconds: None,
    )
    try:
        with pytest.raises(ShortageError, match="ulimit -n"):
            _run(line, range(40))
    finally:
        line.close()


def test_a_model_without_memory_ends_the_run_in_one_line():
    def load() -> FakeEncoder:
        raise MemoryError

    line = EmbeddingLine(_fetch, _decode, load, LIMITS)
    try:
        with pytest.raises(ShortageError, match="no memory left"):
            _run(line, range(40))
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
    line = EmbeddingLine(_fetch, _decode, lambda: FakeEncoder(4), LIMITS)
    try:
        assert _embedded(_run(line, range(40))) == GOOD
    finally:
        line.close()


def test_not_one_thread_ends_the_run_in_one_line(monkeypatch):
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(ShortageError, match="no more threads"):
        EmbeddingLine(_fetch, _decode, lambda: FakeEncoder(4), LIMITS)


def test_a_full_store_ends_the_run_and_rejects_nothing():
    def find_known(digest: str) -> int | None:
        raise StoreError("cannot write s: no space left on device; free some space or choose another --store")

    line = EmbeddingLine(_fetch, _decode, lambda: FakeEncoder(4), LIMITS, find_known)
    try:
        with pytest.raises(StoreError, match="choose another --store"):
            _run(line, range(10))
    finally:
        line.close()
