from __future__ import annotations

import hashlib
import pickle
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder.decode import Picture
from fetch.source_version import Fetched
from store.rejects import Reason, Rejected
from tests.support.embedding_line import LIMITS, decode_number, fetch_number, run_line
from tests.support.fakes import FakeEncoder
from transforms.embedding_line import EmbeddingLine, LineLimits
from transforms.picture_outcomes import EmbeddedPicture, PictureJob, RefusedPicture, SameContent, Unchanged


@settings(max_examples=25)
@given(st.integers(0, 90), st.integers(1, 9))
def test_every_row_comes_off_the_line_once(count, batch_size):
    encoder = FakeEncoder(batch_size)
    line = EmbeddingLine(fetch_number, decode_number, lambda: encoder, LIMITS)
    try:
        outcomes = run_line(line, range(count))
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
    line = EmbeddingLine(fetch_number, decode_number, lambda: FakeEncoder(4), LIMITS)
    try:
        assert len(run_line(line, range(10))) == 10
        assert len(run_line(line, range(10, 31))) == 21
    finally:
        line.close()


def test_decodes_are_as_many_as_the_processors_where_the_line_is_started(monkeypatch):
    limits = pickle.loads(pickle.dumps(LineLimits()))  # made by the launcher, and sent to a worker
    monkeypatch.setattr("transforms.embedding_line.processors", lambda: 3)
    for asked, decodes in ((limits, 3), (LineLimits(parallel_decodes=5), 5)):
        line = EmbeddingLine(fetch_number, decode_number, lambda: FakeEncoder(4), asked)
        try:
            assert len(run_line(line, range(10))) == 10
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
        assert len(run_line(line, range(200))) == 200
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

    line = EmbeddingLine(lambda uri, known: Fetched(b"0", ""), decode_number, lambda: Broken(3), LIMITS)
    try:
        outcomes = run_line(line, range(3))
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
        fail if broken == "fetch" else fetch_number,
        fail if broken == "decode" else decode_number,  # type: ignore[arg-type]
        fail if broken == "load" else lambda: encoder,  # type: ignore[arg-type]
        LIMITS,
    )
    try:
        with pytest.raises(ZeroDivisionError, match=broken):
            run_line(line, range(50))
    finally:
        line.close()


def test_no_model_is_loaded_for_what_is_known():
    def load() -> FakeEncoder:
        raise AssertionError("expected no picture to need the model")

    def find_known(digest: str) -> int | None:
        return int(digest[:4], 16)

    line = EmbeddingLine(fetch_number, decode_number, load, LIMITS, find_known)
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

    line = EmbeddingLine(fetch, decode_number, lambda: FakeEncoder(4), LIMITS)
    try:
        outcomes = run_line(line, range(2))
    finally:
        line.close()
    assert {outcome.job.image_uri: outcome.passing for outcome in outcomes} == {"0": False, "1": True}
