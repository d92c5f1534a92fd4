"""Work for a queue that begins and ends when a test says so."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from serving.work_queue import WorkQueue

T = TypeVar("T")
LONG_S = 120.0


class Gate:
    """Work that waits for the test: it says when a batch has begun, and ends it when told to."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.seconds = 0.0
        self._begun = threading.Semaphore(0)
        self._go = threading.Semaphore(0)

    def work(self, items: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(items))
        self._begun.release()
        assert self._go.acquire(timeout=LONG_S)
        return [10 * item for item in items]

    async def begun(self, timeout_s: float = LONG_S) -> bool:
        return await asyncio.to_thread(self._begun.acquire, timeout=timeout_s)

    def let_go(self, batches: int = 1) -> None:
        self._go.release(batches)


def run_soon(test: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(test, 2 * LONG_S))


async def until(holds: Callable[[], bool]) -> None:
    """Lets the loop and the threads go on until something holds."""
    end_s = time.monotonic() + LONG_S
    while not holds():
        assert time.monotonic() < end_s, "it never came to hold"
        await asyncio.sleep(0)


async def blocked(queue: WorkQueue[int, int], gate: Gate, items: Sequence[int]) -> list[asyncio.Task[int]]:
    """Item 0 is being worked on and `items` wait behind it."""
    tasks = [asyncio.ensure_future(queue.submit(0))]
    assert await gate.begun()
    tasks += [asyncio.ensure_future(queue.submit(item)) for item in items]
    await until(lambda: queue.waiting == len(items))
    return tasks
