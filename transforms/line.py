"""The assembly line inside a worker: fetching, decoding and the model, all at once, over a stream of rows."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from encoder.decode import Picture
from encoder.model import Encoder
from store.rejects import Reason, Rejected
from transforms.rows import CatalogRow


@dataclasses.dataclass(frozen=True, slots=True)
class Embedded:
    """A row that got its embedding.

    Attributes:
        width, height: Pixels after orientation.
        content_sha256: Hex, of the encoded bytes.
        norm: L2 norm of the model's output.
        embedding: float32[D], unit L2 norm.
    """

    row: CatalogRow
    width: int
    height: int
    content_sha256: str
    norm: float
    embedding: npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True, slots=True)
class Refused:
    """A row that ends without an embedding, and why."""

    row: CatalogRow
    reason: Reason
    detail: str


Outcome = Embedded | Refused


@dataclasses.dataclass(frozen=True, slots=True)
class _Decoded:
    row: CatalogRow
    picture: Picture
    content_sha256: str


@dataclasses.dataclass(frozen=True, slots=True)
class LineLimits:
    """How much the line holds at once.

    Attributes:
        parallel_fetches: Fetches under way. More hides more network latency and costs a thread each.
        parallel_decodes: Decodes under way; the cores of the machine keep the model fed.
        max_waiting_bytes: Encoded pictures fetched but not yet decoded; nothing new is fetched above it.
    """

    parallel_fetches: int = 64
    parallel_decodes: int = os.cpu_count() or 1
    max_waiting_bytes: int = 128 << 20


class EmbeddingLine:
    """Takes rows one at a time and gives back outcomes as they come, in any order.

    Fetches run in one pool of threads, decodes in another, the model in a thread of its own that is handed a full batch
    of good pictures while the next are fetched and decoded. At most `parallel_fetches` + 3 batches of rows are on the
    line, so its memory does not grow with the catalog.

    `push`, `flush` and `close` belong to one thread.
    """

    def __init__(
        self,
        fetch: Callable[[str], bytes],
        decode: Callable[[bytes], Picture],
        encoder: Encoder,
        limits: LineLimits,
    ) -> None:
        self._fetch = fetch
        self._decode = decode
        self._encoder = encoder
        self._limits = limits
        self._max_rows = limits.parallel_fetches + 3 * encoder.batch_size
        self._state = threading.Condition()
        self._decoded: collections.deque[_Decoded] = collections.deque()
        self._outcomes: list[Outcome] = []
        self._rows_on_line = 0
        self._rows_before_model = 0
        self._waiting_bytes = 0
        self._flushing = False
        self._closed = False
        self._failure: BaseException | None = None
        self._fetchers = ThreadPoolExecutor(limits.parallel_fetches, "fetch")
        self._decoders = ThreadPoolExecutor(limits.parallel_decodes, "decode")
        self._model = threading.Thread(target=self._run_model, name="model", daemon=True)
        self._model.start()

    def push(self, row: CatalogRow) -> list[Outcome]:
        """Puts a row on the line, waiting for room where there is none.

        Returns:
            Outcomes that have come off the line meanwhile.
        """
        with self._state:
            self._state.wait_for(self._has_room)
            self._rows_on_line += 1
            self._rows_before_model += 1
            outcomes = self._take_outcomes()
        self._fetchers.submit(self._guard, self._fetch_one, row)
        return outcomes

    def flush(self) -> Iterator[Outcome]:
        """Outcomes of every row still on the line; the last batch may be a small one."""
        while True:
            with self._state:
                self._flushing = True
                self._state.notify_all()
                self._state.wait_for(lambda: bool(self._outcomes or self._failure or not self._rows_on_line))
                outcomes = self._take_outcomes()
                if not outcomes:
                    self._flushing = False
                    return
            yield from outcomes

    def close(self) -> None:
        """Stops the threads; rows still on the line are dropped."""
        with self._state:
            self._closed = True
            self._state.notify_all()
        self._fetchers.shutdown(wait=False, cancel_futures=True)
        self._decoders.shutdown(wait=False, cancel_futures=True)
        self._model.join()

    def _has_room(self) -> bool:
        if self._failure:
            return True
        return self._rows_on_line < self._max_rows and self._waiting_bytes <= self._limits.max_waiting_bytes

    def _take_outcomes(self) -> list[Outcome]:
        if self._failure:
            raise self._failure
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def _finish(self, outcomes: list[Outcome], before_model: int) -> None:
        with self._state:
            self._outcomes += outcomes
            self._rows_on_line -= len(outcomes)
            self._rows_before_model -= before_model
            self._state.notify_all()

    def _guard(self, step: Callable[..., None], row: CatalogRow, *args: bytes) -> None:
        """Runs a step for one row: a rejection is the row's outcome, anything else is the line's failure."""
        try:
            step(row, *args)
        except Rejected as rejected:
            self._finish([Refused(row, rejected.reason, rejected.detail)], before_model=1)
        except BaseException as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        with self._state:
            self._failure = self._failure or error
            self._state.notify_all()

    def _fetch_one(self, row: CatalogRow) -> None:
        data = self._fetch(row.image_uri)
        with self._state:
            self._waiting_bytes += len(data)
            if self._closed:
                return
        self._decoders.submit(self._guard, self._decode_one, row, data)

    def _decode_one(self, row: CatalogRow, data: bytes) -> None:
        try:
            decoded = _Decoded(row, self._decode(data), hashlib.sha256(data).hexdigest())
        finally:
            with self._state:
                self._waiting_bytes -= len(data)
                self._state.notify_all()
        with self._state:
            self._decoded.append(decoded)
            self._rows_before_model -= 1
            self._state.notify_all()

    def _batch_is_due(self) -> bool:
        if self._closed or len(self._decoded) >= self._encoder.batch_size:
            return True
        return bool(self._flushing and self._decoded and not self._rows_before_model)

    def _run_model(self) -> None:
        while True:
            with self._state:
                self._state.wait_for(self._batch_is_due)
                if self._closed:
                    return
                batch = [self._decoded.popleft() for _ in range(min(len(self._decoded), self._encoder.batch_size))]
            try:
                features = self._encoder.encode(np.stack([decoded.picture.pixels for decoded in batch]))
                self._finish(_to_outcomes(batch, features), before_model=0)
            except BaseException as error:
                self._fail(error)
                return


def _to_outcomes(batch: list[_Decoded], features: npt.NDArray[np.float32]) -> list[Outcome]:
    norms = np.linalg.norm(features.astype(np.float64), axis=1)
    outcomes: list[Outcome] = []
    for decoded, vector, norm in zip(batch, features, norms, strict=True):
        if not np.isfinite(norm) or norm < np.finfo(np.float32).tiny:
            outcomes.append(Refused(decoded.row, Reason.NOT_FINITE, f"the embedding's norm is {norm}"))
            continue
        embedding = (vector / norm).astype(np.float32)
        picture = decoded.picture
        outcomes.append(
            Embedded(decoded.row, picture.width, picture.height, decoded.content_sha256, float(norm), embedding)
        )
    return outcomes
