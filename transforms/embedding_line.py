"""The assembly line inside a worker: fetching, decoding and the model, all at once, over a stream of pictures."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from encoder.decode import Picture
from encoder.model import Encoder
from encoder.picture_encoder import encode_batch
from fetch.source_version import Fetched
from store.machine import processors
from store.rejects import Reason, Rejected
from store.shortage import shortage_of
from transforms.brake import Brake
from transforms.measured import Measured
from transforms.picture_outcomes import (
    EmbeddedPicture,
    PictureJob,
    PictureOutcome,
    RefusedPicture,
    SameContent,
    Unchanged,
)


@dataclasses.dataclass(frozen=True, slots=True)
class _Decoded:
    job: PictureJob
    source_version: str
    picture: Picture
    content_sha256: str


@dataclasses.dataclass(frozen=True, slots=True)
class LineLimits:
    """How much the line holds at once.

    Attributes:
        parallel_fetches: Fetches under way. More hides more network latency and costs a thread each.
        parallel_decodes: Decodes under way; 0 for one on each processor of the machine where the line is started, which
            keeps the model fed. Limits may be made on one machine and used on another.
        max_waiting_bytes: Encoded pictures fetched but not yet decoded; nothing new is fetched above it.
    """

    parallel_fetches: int = 64
    parallel_decodes: int = 0
    max_waiting_bytes: int = 128 << 20


class EmbeddingLine:
    """Takes pictures one at a time and gives back outcomes as they come, in any order.

    Fetches run in one pool of threads, decodes in another, the model in a thread of its own that is handed a full batch
    of good pictures while the next are fetched and decoded. At most `parallel_fetches` + 3 batches of pictures are on
    the line, so its memory does not grow with the catalog. The model is loaded for the first picture that needs it.

    `push`, `flush` and `close` belong to one thread.

    Attributes:
        measured: fetch_ms, decode_ms and bytes_fetched of each picture, encode_ms, batch_pictures and
            batch_fill_percent of each batch; for the caller to take.
    """

    def __init__(
        self,
        fetch: Callable[[str, str], Fetched | None],
        decode: Callable[[bytes], Picture],
        load_encoder: Callable[[], Encoder],
        limits: LineLimits,
        find_known: Callable[[str], int | None] = lambda _: None,
        keep: Callable[[str, bytes], None] = lambda _digest, _data: None,
        pause: Callable[[float], object] | None = None,
    ) -> None:
        """Starts the threads.

        Args:
            fetch: URI and known version -> bytes, or None where the picture is as known.
            decode: Bytes -> pixels.
            load_encoder: The model; called once, in the thread that runs it.
            limits: How much is held at once.
            find_known: Digest of a picture's bytes -> place of its embedding, None where it has none.
            keep: Given the digest and the bytes of every picture that has an embedding or can be decoded.
            pause: Waits that many seconds where the process has run short of something; tests need not.

        Raises:
            ShortageError: Not even one thread of each kind can be started.
        """
        self.measured = Measured()
        self._fetch = fetch
        self._decode = decode
        self._load_encoder = load_encoder
        self._limits = limits
        self._find_known = find_known
        self._keep = keep
        self._batch_size = 1  # until the model says
        self._state = threading.Condition()
        self._decoded: collections.deque[_Decoded] = collections.deque()
        self._outcomes: list[PictureOutcome] = []
        self._jobs_on_line = self._jobs_before_model = self._waiting_bytes = 0
        self._flushing = self._closed = False
        self._failure: BaseException | None = None
        self._over = threading.Event()
        self._start_threads(limits, pause or self._over.wait)

    def _start_threads(self, limits: LineLimits, pause: Callable[[float], object]) -> None:
        parallel_decodes = limits.parallel_decodes or processors()
        self._fetching = Brake("fetches", limits.parallel_fetches, Reason.FETCH_ERROR, pause)
        self._decoding = Brake("decodes", parallel_decodes, Reason.TOO_MANY_PIXELS, pause)
        self._fetchers = _start_pool(limits.parallel_fetches, "fetch")
        self._decoders = _start_pool(parallel_decodes, "decode")
        self._model = threading.Thread(target=self._run_model, name="model", daemon=True)
        try:
            self._model.start()
        except RuntimeError as error:
            raise shortage_of(error) or error from error

    def push(self, job: PictureJob) -> list[PictureOutcome]:
        """Puts a picture on the line, waiting for room where there is none.

        Returns:
            Outcomes that have come off the line meanwhile.
        """
        with self._state:
            self._state.wait_for(self._has_room)
            self._jobs_on_line += 1
            self._jobs_before_model += 1
            outcomes = self._take_outcomes()
        _submit(self._fetchers, self._guard, self._fetch_one, job)
        return outcomes

    def flush(self) -> Iterator[PictureOutcome]:
        """Outcomes of every picture still on the line; the last batch may be a small one."""
        while True:
            with self._state:
                self._flushing = True
                self._state.notify_all()
                self._state.wait_for(lambda: bool(self._outcomes or self._failure or not self._jobs_on_line))
                outcomes = self._take_outcomes()
                if not outcomes:
                    self._flushing = False
                    return
            yield from outcomes

    def close(self) -> None:
        """Stops the threads; pictures still on the line are dropped."""
        with self._state:
            self._closed = True
            self._state.notify_all()
        self._over.set()
        self._fetchers.shutdown(wait=False, cancel_futures=True)
        self._decoders.shutdown(wait=False, cancel_futures=True)
        self._model.join()

    def _has_room(self) -> bool:
        if self._failure:
            return True
        most = self._limits.parallel_fetches + 3 * self._batch_size
        return self._jobs_on_line < most and self._waiting_bytes <= self._limits.max_waiting_bytes

    def _take_outcomes(self) -> list[PictureOutcome]:
        if self._failure:
            raise self._failure
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def _finish(self, outcomes: list[PictureOutcome], before_model: int) -> None:
        with self._state:
            self._outcomes += outcomes
            self._jobs_on_line -= len(outcomes)
            self._jobs_before_model -= before_model
            self._state.notify_all()

    def _guard(self, step: Callable[..., None], job: PictureJob, *args: Fetched) -> None:
        """Runs a step for one picture: a rejection is its outcome, anything else is the line's failure."""
        try:
            step(job, *args)
        except Rejected as rejected:
            self._finish([RefusedPicture(job, rejected.reason, rejected.detail, rejected.passing)], before_model=1)
        except BaseException as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        with self._state:
            self._failure = self._failure or shortage_of(error) or error
            self._state.notify_all()

    def _fetch_one(self, job: PictureJob) -> None:
        with self.measured.time("fetch_ms"):
            fetched = self._fetching.run(lambda: self._fetch(job.image_uri, job.known_version))
        if fetched is None:
            self._finish([Unchanged(job)], before_model=1)
            return
        self.measured.note("bytes_fetched", len(fetched.data))
        with self._state:
            self._waiting_bytes += len(fetched.data)
            if self._closed:
                return
        _submit(self._decoders, self._guard, self._decode_one, job, fetched)

    def _decode_one(self, job: PictureJob, fetched: Fetched) -> None:
        try:
            digest = hashlib.sha256(fetched.data).hexdigest()
            place = self._find_known(digest)
            if place is not None:
                self._keep(digest, fetched.data)
                self._finish([SameContent(job, fetched.source_version, digest, place)], before_model=1)
                return
            with self.measured.time("decode_ms"):
                picture = self._decoding.run(lambda: self._decode(fetched.data))
            decoded = _Decoded(job, fetched.source_version, picture, digest)
            self._keep(digest, fetched.data)
        finally:
            with self._state:
                self._waiting_bytes -= len(fetched.data)
                self._state.notify_all()
        with self._state:
            self._decoded.append(decoded)
            self._jobs_before_model -= 1
            self._state.notify_all()

    def _batch_is_due(self) -> bool:
        if self._closed or len(self._decoded) >= self._batch_size:
            return True
        return bool(self._flushing and self._decoded and not self._jobs_before_model)

    def _run_model(self) -> None:
        try:
            with self._state:
                self._state.wait_for(lambda: self._closed or bool(self._decoded))
                if self._closed:
                    return
            encoder = self._load_encoder()
            with self._state:
                self._batch_size = encoder.batch_size
                self._state.notify_all()
            while batch := self._next_batch():
                self._finish(self._encode(encoder, batch), before_model=0)
        except BaseException as error:
            self._fail(error)

    def _encode(self, encoder: Encoder, batch: list[_Decoded]) -> list[PictureOutcome]:
        with self.measured.time("encode_ms"):
            outcomes = _encode_decoded(encoder, batch)
        self.measured.note("batch_pictures", len(batch))
        self.measured.note("batch_fill_percent", round(100 * len(batch) / encoder.batch_size))
        return outcomes

    def _next_batch(self) -> list[_Decoded]:
        """A batch that is due; none once the line is closed."""
        with self._state:
            self._state.wait_for(self._batch_is_due)
            if self._closed:
                return []
            return [self._decoded.popleft() for _ in range(min(len(self._decoded), self._batch_size))]


def _start_pool(most: int, name: str) -> ThreadPoolExecutor:
    """A pool with one thread running, so that work that was submitted is done whether or not more can be started."""
    pool = ThreadPoolExecutor(most, name)
    try:
        pool.submit(int)
    except RuntimeError as error:
        raise shortage_of(error) or error from error
    return pool


def _submit(pool: ThreadPoolExecutor, work: Callable[..., None], *args: object) -> None:
    """Submits work. It is queued before a thread is started for it: where none can be, those that run do it."""
    try:
        pool.submit(work, *args)
    except RuntimeError as error:
        if shortage_of(error) is None:
            raise


def _encode_decoded(encoder: Encoder, batch: list[_Decoded]) -> list[PictureOutcome]:
    outcomes: list[PictureOutcome] = []
    for decoded, found in zip(batch, encode_batch(encoder, [decoded.picture for decoded in batch]), strict=True):
        if isinstance(found, Rejected):
            outcomes.append(RefusedPicture(decoded.job, found.reason, found.detail))
            continue
        outcomes.append(
            EmbeddedPicture(
                decoded.job,
                decoded.source_version,
                found.width,
                found.height,
                decoded.content_sha256,
                found.norm,
                found.embedding,
            )
        )
    return outcomes
