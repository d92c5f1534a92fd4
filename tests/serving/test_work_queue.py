"""Batches, bounds and endings of the queues between requests and threads."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import threading
import time
import types
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving import work_queue
from serving.work_queue import Full, WorkQueue, call_each

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


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def make() -> Iterator[Callable[..., WorkQueue[Any, Any]]]:
    """Queues that are closed at the end."""
    made: list[WorkQueue[Any, Any]] = []

    def make(work: Callable[..., Any], **options: Any) -> WorkQueue[Any, Any]:
        made.append(WorkQueue("test", work, **{"max_waiting": 100, **options}))
        return made[-1]

    yield make
    for queue in made:
        queue.close()


def run(test: Coroutine[Any, Any, T]) -> T:
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


def test_what_waits_while_a_batch_runs_becomes_the_next_batches_in_the_order_it_came(gate, make):
    async def test() -> list[int]:
        tasks = await blocked(make(gate.work, max_batch=3), gate, range(1, 8))
        gate.let_go(4)
        return await asyncio.gather(*tasks)

    assert run(test()) == [0, 10, 20, 30, 40, 50, 60, 70]
    assert gate.batches == [[0], [1, 2, 3], [4, 5, 6], [7]]


def test_threads_work_at_the_same_time(gate, make):
    async def test() -> None:
        queue = make(gate.work, threads=3)
        tasks = [asyncio.ensure_future(queue.submit(item)) for item in range(4)]
        for _ in range(3):
            assert await gate.begun()
        assert queue.waiting == 1
        gate.let_go(4)
        assert await asyncio.gather(*tasks) == [0, 10, 20, 30]

    run(test())


def test_nobody_waits_when_nobody_is_coming(gate, make):
    async def test() -> None:
        gate.let_go()
        assert await make(gate.work, max_batch=4, delay_s=10 * LONG_S).submit(7) == 70

    run(test())


def test_a_batch_waits_for_what_was_announced(gate, make):
    async def test() -> None:
        queue = make(gate.work, max_batch=4, delay_s=10 * LONG_S, threads=2)
        with queue.coming() as announced:
            first = asyncio.ensure_future(queue.submit(1))
            assert not await gate.begun(0.05)
            second = asyncio.ensure_future(queue.submit(2, announced))
            assert await gate.begun()
        gate.let_go()
        assert [await first, await second] == [10, 20]

    run(test())
    assert gate.batches == [[1, 2]]


def test_a_batch_stops_waiting_for_what_will_not_come(gate, make):
    async def test() -> None:
        queue = make(gate.work, max_batch=4, delay_s=10 * LONG_S)
        with queue.coming():
            first = asyncio.ensure_future(queue.submit(1))
            with contextlib.suppress(KeyError), queue.coming():
                assert not await gate.begun(0.05)
                raise KeyError("no picture")
            assert not await gate.begun(0.05)  # for the other may come
        assert await gate.begun()
        gate.let_go()
        assert await first == 10

    run(test())


def test_an_announcement_counts_once_though_it_is_submitted_and_its_block_ends(gate, make):
    async def test() -> None:
        queue = make(gate.work, max_batch=4, delay_s=10 * LONG_S)
        gate.let_go()
        with queue.coming() as announced:
            assert await queue.submit(1, announced) == 10
        assert await gate.begun()
        with queue.coming():  # were the first counted off twice, this one would count for nothing
            later = asyncio.ensure_future(queue.submit(2))
            assert not await gate.begun(0.05)
        gate.let_go()
        assert await later == 20

    run(test())


def test_a_full_batch_waits_for_nobody(gate, make):
    async def test() -> None:
        queue = make(gate.work, max_batch=2, delay_s=10 * LONG_S)
        with queue.coming():
            gate.let_go()
            assert list(await asyncio.gather(queue.submit(1), queue.submit(2))) == [10, 20]

    run(test())
    assert gate.batches == [[1, 2]]


@pytest.mark.parametrize("threads", [1, 3])
def test_the_longest_wait_is_counted_from_the_first_of_a_batch(gate, make, threads):
    delay_s = 0.15

    async def test() -> list[int]:
        queue = make(gate.work, max_batch=10_000, max_waiting=10_000, delay_s=delay_s, threads=threads)
        with queue.coming():
            started_s = time.monotonic()
            tasks = [asyncio.ensure_future(queue.submit(0))]
            while not await gate.begun(0.005):  # each would put the end off, were it counted from the last
                tasks.append(asyncio.ensure_future(queue.submit(len(tasks))))
                assert time.monotonic() < started_s + LONG_S
            assert time.monotonic() >= started_s + delay_s
            gate.let_go(10)
        return [await task for task in tasks]

    answers = run(test())
    assert answers == [10 * item for item in range(len(answers))]


def test_one_too_many_is_told_when_there_may_be_room_by_the_pace_so_far(monkeypatch, gate, make):
    now_s = 50.0
    monkeypatch.setattr(work_queue, "time", types.SimpleNamespace(monotonic=lambda: now_s))

    def work(items: Sequence[float]) -> list[float]:
        nonlocal now_s
        now_s += sum(items)
        return gate.work(items) if items == [0] else list(items)

    async def test() -> None:
        queue = make(work, max_batch=2, max_waiting=2, threads=2)
        assert queue.retry_after_s == 0
        assert await queue.submit(8) == 8
        await until(lambda: queue.retry_after_s == pytest.approx(8 / 2))
        assert await queue.submit(3) == 3
        pace_s = 0.8 * 8 + 0.2 * 3
        await until(lambda: queue.retry_after_s == pytest.approx(pace_s / 2))
        tasks = [asyncio.ensure_future(queue.submit(0))]
        assert await gate.begun()
        tasks.append(asyncio.ensure_future(queue.submit(0)))
        assert await gate.begun()
        tasks += [asyncio.ensure_future(queue.submit(item)) for item in (1, 1)]
        await until(lambda: queue.waiting == 2)
        with pytest.raises(Full, match=r"10\.5 s") as full:
            await queue.submit(5)
        assert full.value.retry_after_s == pytest.approx(3 * pace_s / 2)
        gate.let_go(2)
        assert await asyncio.gather(*tasks) == [0, 0, 1, 1]
        assert await queue.submit(2) == 2

    run(test())


def test_an_item_that_finds_no_room_is_no_longer_announced(gate, make):
    async def test() -> None:
        queue = make(gate.work, max_batch=8, max_waiting=1, delay_s=10 * LONG_S)
        (running, waiting) = await blocked(queue, gate, [1])
        with queue.coming() as announced:
            with pytest.raises(Full):
                await queue.submit(2, announced)
            gate.let_go(2)  # the second batch waits for nobody
            assert [await running, await waiting] == [0, 10]

    run(test())


def test_items_whose_callers_have_left_are_left_out(gate, make):
    async def test() -> None:
        queue = make(gate.work, max_batch=3)
        tasks = await blocked(queue, gate, [1, 2, 3, 4, 5, 6, 7])
        for number in (2, 4, 5, 6):  # 4, 5 and 6 are a whole batch
            tasks[number].cancel()
        gate.let_go(3)
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [answer for answer in answers if isinstance(answer, int)] == [0, 10, 30, 70]

    run(test())
    assert gate.batches == [[0], [1, 3], [7]]


def test_one_who_leaves_while_the_batch_runs_takes_nothing_from_the_others(gate, make):
    async def test() -> None:
        queue = make(gate.work, max_batch=3)
        tasks = await blocked(queue, gate, [1, 2, 3])
        gate.let_go()
        assert await tasks[0] == 0
        assert await gate.begun()
        tasks[1].cancel()
        gate.let_go()
        assert await asyncio.gather(*tasks[2:]) == [20, 30]
        with pytest.raises(asyncio.CancelledError):
            await tasks[1]

    run(test())


def test_what_the_work_raises_answers_all_of_its_batch_and_ends_nothing(make):
    def work(items: Sequence[int]) -> list[int]:
        if -1 in items:
            raise KeyError("the model is gone")
        return list(items)

    async def test() -> None:
        queue = make(work, max_batch=1)
        with pytest.raises(KeyError, match="the model is gone"):
            await queue.submit(-1)
        assert await queue.submit(4) == 4

    run(test())


def test_every_waiting_caller_is_told_what_the_work_raised(gate, make):
    def work(items: Sequence[int]) -> list[int | Exception]:
        answers = gate.work(items)
        if len(items) > 1:
            raise KeyError("gone")
        return answers

    async def test() -> list[object]:
        tasks = await blocked(make(work, max_batch=3), gate, [1, 2, 3])
        gate.let_go(2)
        return list(await asyncio.gather(*tasks, return_exceptions=True))

    assert [type(answer) for answer in run(test())] == [int, KeyError, KeyError, KeyError]


def test_an_exception_among_the_answers_is_raised_to_its_own_caller(gate, make):
    def work(calls: Sequence[Callable[[], int]]) -> list[int | Exception]:
        gate.work([])
        return call_each(calls)

    def fail() -> int:
        raise KeyError("mine")

    async def test() -> list[object]:
        queue = make(work, max_batch=3)
        tasks = [asyncio.ensure_future(queue.submit(lambda: 1))]
        assert await gate.begun()
        tasks += [asyncio.ensure_future(queue.submit(call)) for call in (lambda: 2, fail, lambda: 3)]
        await until(lambda: queue.waiting == 3)
        gate.let_go(2)
        return list(await asyncio.gather(*tasks, return_exceptions=True))

    first, second, third, fourth = run(test())
    assert (first, second, fourth) == (1, 2, 3)
    assert isinstance(third, KeyError)


def test_closing_cancels_what_waits_and_finishes_what_runs(gate):
    async def test() -> None:
        queue: WorkQueue[int, int | Exception] = WorkQueue("closed", gate.work, max_waiting=10, threads=1)
        running, *waiting = await blocked(queue, gate, [1, 2])  # type: ignore[arg-type]

        def end_the_batch() -> None:
            while queue.waiting:  # until `close` has begun
                time.sleep(0.001)
            gate.let_go()

        ending = threading.Thread(target=end_the_batch)
        ending.start()
        queue.close()
        ending.join()
        assert await running == 0
        for task in waiting:
            with pytest.raises(asyncio.CancelledError):
                await task

    run(test())
    assert gate.batches == [[0]]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("closed")]


def test_an_answer_that_comes_after_the_loop_has_ended_harms_nobody(gate):
    queue = WorkQueue("late", gate.work, max_waiting=10, threads=1)

    async def test() -> None:
        task = asyncio.ensure_future(queue.submit(1))
        assert await gate.begun()
        task.cancel()

    asyncio.run(test())
    gate.let_go(2)
    assert asyncio.run(queue.submit(2)) == 20  # the thread is there still
    queue.close()


class _Large:
    """Stands for a picture."""


def _answer_each(items: Sequence[_Large]) -> Sequence[_Large | Exception]:
    return [_Large() for _ in items]


def _fail(items: Sequence[_Large]) -> list[Any]:
    raise KeyError(len(items))


def _fail_each(items: Sequence[_Large]) -> Sequence[_Large | Exception]:
    calls: list[Callable[[], Any]] = [functools.partial(_fail, [item]) for item in items]
    return call_each(calls)


@pytest.mark.parametrize("work", [_answer_each, _fail, _fail_each])
def test_nothing_of_a_finished_batch_is_kept_while_the_thread_waits(make, work):
    async def ask(queue: WorkQueue[_Large, _Large]) -> list[weakref.ref[_Large]]:
        item = _Large()
        left = [weakref.ref(item)]
        with contextlib.suppress(KeyError):
            left.append(weakref.ref(await queue.submit(item)))
        return left

    async def test() -> None:
        queue = make(work)
        left = await ask(queue)
        assert len(left) == (2 if work is _answer_each else 1)
        await until(lambda: all(reference() is None for reference in left))

    gc.collect()
    gc.disable()
    try:
        run(test())
    finally:
        gc.enable()


@settings(max_examples=60)
@given(
    waves=st.lists(
        st.lists(st.sampled_from(["ask", "announce", "leave", "fail", "withdraw"]), max_size=8), min_size=1, max_size=5
    ),
    max_batch=st.integers(1, 5),
    threads=st.integers(1, 4),
    max_waiting=st.integers(1, 12),
    delay_s=st.sampled_from([0.0, 0.002]),
)
def test_everyone_who_stays_gets_one_answer_and_it_is_theirs(waves, max_batch, threads, max_waiting, delay_s):
    worked: list[int] = []
    sizes: list[int] = []

    def work(items: Sequence[tuple[int, str]]) -> list[int | Exception]:
        sizes.append(len(items))
        worked.extend(number for number, _ in items)
        return [KeyError(number) if how == "fail" else number for number, how in items]

    async def ask(queue: WorkQueue[tuple[int, str], int], number: int, how: str) -> object:
        try:
            if how not in ("announce", "withdraw"):
                return await queue.submit((number, how))
            with queue.coming() as announced:
                await asyncio.sleep(0)
                return await queue.submit((number, how), announced) if how == "announce" else "withdrawn"
        except (Full, KeyError) as error:
            return error

    async def test() -> dict[int, tuple[str, object]]:
        queue: WorkQueue[tuple[int, str], int] = WorkQueue(
            "any", work, max_batch=max_batch, max_waiting=max_waiting, delay_s=delay_s, threads=threads
        )
        tasks: list[tuple[str, Awaitable[object]]] = []
        for wave in waves:
            for how in wave:
                tasks.append((how, asyncio.ensure_future(ask(queue, len(tasks), how))))
            await asyncio.sleep(0)
            for how, task in tasks:
                if how == "leave" and isinstance(task, asyncio.Task):
                    task.cancel()
        answers = await asyncio.gather(*(task for _, task in tasks), return_exceptions=True)
        queue.close()
        return {number: (how, answer) for number, ((how, _), answer) in enumerate(zip(tasks, answers, strict=True))}

    for number, (how, answer) in run(test()).items():
        if how == "withdraw":
            assert answer == "withdrawn"
        elif isinstance(answer, Full):
            assert number not in worked
        elif isinstance(answer, asyncio.CancelledError):
            assert how == "leave"
        elif how == "fail":
            assert isinstance(answer, KeyError)
            assert answer.args == (number,)
        else:
            assert answer == number
        if not isinstance(answer, (Full, asyncio.CancelledError)) and how != "withdraw":
            assert worked.count(number) == 1
    assert len(worked) == len(set(worked))
    assert not sizes or max(sizes) <= max_batch
