from __future__ import annotations

import hashlib
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder.decode import Picture
from fetch.source_version import Fetched
from store.rejects import Reason, Rejected
from tests.support.fakes import FakeEncoder
from transforms.line import EmbeddingLine, LineLimits
from transforms.outcomes import Embedded, Job, Refused, SameContent, Unchanged

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
    outcomes = [outcome for index in rows for outcome in line.push(Job(str(index)))]
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
            assert isinstance(outcome, Refused)
            assert outcome.reason is Reason.NOT_FOUND
        elif number % 5 == 4:
            assert isinstance(outcome, Refused)
            assert outcome.reason is Reason.NOT_AN_IMAGE
        else:
            assert isinstance(outcome, Embedded)
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
    assert sorted(isinstance(outcome, Refused) for outcome in outcomes) == [False, False, True]
    assert next(outcome for outcome in outcomes if isinstance(outcome, Refused)).reason is Reason.NOT_FINITE


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
    jobs = [Job(str(index), "known" if index % 2 else "") for index in range(60)]
    try:
        outcomes = [outcome for job in jobs for outcome in line.push(job)] + list(line.flush())
    finally:
        line.close()
    assert len(outcomes) == 60
    for outcome in outcomes:
        number = int(outcome.job.image_uri)
        if number % 7 == 3:
            assert isinstance(outcome, Refused)
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
