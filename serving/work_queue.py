"""Work that requests hand to threads: bounded, in batches, the event loop never waiting."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")

# How much of the estimate of an item's time the newest batch is.
_NEWEST = 0.2


# A request that has arrived is read in one round of the loop and submitted in the next.
_QUIET_ROUNDS = 2
_MAX_GATHERING_S = 0.005


class Full(Exception):
    """There is no room for another item.

    Attributes:
        retry_after_s: When there may be room, by the pace of the last batches.
    """

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"full; expected to have room in {retry_after_s:.1f} s")
        self.retry_after_s = retry_after_s


@dataclasses.dataclass(slots=True)
class Announced:
    """An item that is on its way to a queue."""

    over: bool = False


class WorkQueue(Generic[Item, Answer]):
    """Threads that take what is waiting, all of it up to a batch, and answer into the event loop.

    A batch begins as soon as a thread is free: under load batches fill by themselves. Where items are announced
    (`coming`), a thread that has some waits for the others, but no longer than `delay_s`.

    `submit`, `coming` and `close` belong to the event loop's thread.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[Sequence[Item]], Sequence[Answer | Exception]],
        *,
        max_batch: int = 1,
        max_waiting: int,
        delay_s: float = 0.0,
        threads: int = 1,
    ) -> None:
        """Starts the threads.

        Args:
            name: Of the threads.
            work: A batch -> an answer to each item, or the exception that answers it. What it raises answers all.
            max_batch: Items of a batch.
            max_waiting: Items that wait for a thread; those that are being worked on are not counted.
            delay_s: Longest wait for announced items.
            threads: Batches at once.
        """
        self._work = work
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._delay_s = delay_s
        self._state = threading.Condition()
        self._waiting: collections.deque[tuple[Item, asyncio.Future[Answer], asyncio.AbstractEventLoop]]
        self._waiting = collections.deque()
        self._submitted = 0
        self._gathering = False
        self._oldest_at_s = 0.0
        self._coming = 0
        self._closed = False
        self._item_s = 0.0
        self._threads = [threading.Thread(target=self._run, name=f"{name}-{n}", daemon=True) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Items that no thread has taken yet."""
        return len(self._waiting)

    @property
    def retry_after_s(self) -> float:
        """Seconds until what is waiting will have been worked on, by the pace of the last batches."""
        return (len(self._waiting) + 1) * self._item_s / len(self._threads)

    async def submit(self, item: Item, announced: Announced | None = None) -> Answer:
        """Waits for the answer to one item. An item whose caller is cancelled is left out.

        Args:
            item: To work on.
            announced: What `coming` gave, if the item was announced.

        Raises:
            Full: `max_waiting` items wait already, or the queue is closed.
            Exception: What `work` answered or raised.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        with self._state:
            self._withdraw(announced)
            if self._closed or len(self._waiting) >= self._max_waiting:
                raise Full(self.retry_after_s)
            if not self._waiting:
                self._oldest_at_s = time.monotonic()
            self._waiting.append((item, future, loop))
        self._submitted += 1
        if not self._gathering:
            self._gathering = True
            ends_at_s = time.monotonic() + _MAX_GATHERING_S
            loop.call_soon(self._gather, loop, self._submitted, 0, ends_at_s)
        try:
            return await future
        finally:
            del future  # what it raises holds this frame: without the cycle, an item goes as soon as it is answered

    @contextlib.contextmanager
    def coming(self) -> Iterator[Announced]:
        """Announces an item, until it is submitted or the block ends."""
        announced = Announced()
        with self._state:
            self._coming += 1
        try:
            yield announced
        finally:
            with self._state:
                self._withdraw(announced)

    def _gather(self, loop: asyncio.AbstractEventLoop, seen: int, quiet_rounds: int, ends_at_s: float) -> None:
        """Wakes a thread once the loop has nothing more to submit for now.

        Requests that have arrived are read before any is worked on: a thread that takes them one by one costs each of
        them what it costs all of them at once. Where nothing else has arrived this is two rounds of the loop, some ten
        microseconds.
        """
        full = len(self._waiting) >= self._max_batch or time.monotonic() >= ends_at_s
        if not full and self._submitted != seen:
            loop.call_soon(self._gather, loop, self._submitted, 0, ends_at_s)
        elif not full and quiet_rounds < _QUIET_ROUNDS:
            loop.call_soon(self._gather, loop, seen, quiet_rounds + 1, ends_at_s)
        else:
            with self._state:
                self._gathering = False
                self._state.notify(-(-len(self._waiting) // self._max_batch))

    def _withdraw(self, announced: Announced | None) -> None:
        if announced is not None and not announced.over:
            announced.over = True
            self._coming -= 1
            self._state.notify_all()

    def close(self, timeout_s: float = 5.0) -> None:
        """Stops the threads once their batches are done; what is waiting is cancelled.

        Args:
            timeout_s: A thread that takes longer (a dead disk, a slow server) is left to end with the process.
        """
        with self._state:
            self._closed = True
            left = list(self._waiting)
            self._waiting.clear()
            self._state.notify_all()
        for _, future, _ in left:
            future.cancel()
        ends_at_s = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, ends_at_s - time.monotonic()))

    def _run(self) -> None:
        while batch := self._next_batch():
            started_s = time.monotonic()
            items = [item for item, _, _ in batch]
            answers: Sequence[Answer | Exception]
            try:
                answers = self._work(items)
            except Exception as error:
                answers = [error] * len(batch)
            took_s = (time.monotonic() - started_s) / len(batch)
            self._item_s = took_s if not self._item_s else (1 - _NEWEST) * self._item_s + _NEWEST * took_s
            # The loop may have ended meanwhile, with nobody left to answer.
            with contextlib.suppress(RuntimeError):
                batch[0][2].call_soon_threadsafe(_settle, [future for _, future, _ in batch], answers)
            del batch, items, answers  # while waiting for the next batch, nothing of this one is kept alive

    def _next_batch(self) -> list[tuple[Item, asyncio.Future[Answer], asyncio.AbstractEventLoop]]:
        """What is to be worked on now; nothing once closed."""
        with self._state:
            while True:
                self._state.wait_for(lambda: self._closed or bool(self._waiting and not self._gathering))
                if self._closed:
                    return []
                left_s = self._oldest_at_s + self._delay_s - time.monotonic()
                if self._coming and len(self._waiting) < self._max_batch and left_s > 0:
                    self._state.wait(left_s)
                    continue
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._max_batch))]
                self._oldest_at_s = time.monotonic()
                batch = [entry for entry in batch if not entry[1].cancelled()]
                if batch:
                    return batch


def _settle(futures: Sequence[asyncio.Future[Answer]], answers: Sequence[Answer | Exception]) -> None:
    for future, answer in zip(futures, answers, strict=True):
        if future.done():  # cancelled meanwhile
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)


def call_each(calls: Sequence[Callable[[], Answer]]) -> list[Answer | Exception]:
    """Work for a queue whose items are functions."""
    return [_outcome(call) for call in calls]


def _outcome(call: Callable[[], Answer]) -> Answer | Exception:
    """A function of its own: the error holds its frame, which must not hold the error."""
    try:
        return call()
    except Exception as error:
        return error
