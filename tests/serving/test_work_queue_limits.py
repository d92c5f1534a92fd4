"""What becomes of items where there is no room, where their callers leave, where work fails, and at the end."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import threading
import time
import types
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from serving import work_queue
from serving.work_queue import Full, WorkQueue, call_each
from tests.support.gated_work import LONG_S, blocked, run_soon, until


def test_one_too_many_is_told_when_there_may_be_room_by_the_pace_so_far(monkeypatch, gate, make_queue):
    now_s = 50.0
    monkeypatch.setattr(work_queue, "time", types.SimpleNamespace(monotonic=lambda: now_s))

    def work(items: Sequence[float]) -> list[float]:
        nonlocal now_s
        now_s += sum(items)
        return gate.work(items) if items == [0] else list(items)

    async def test() -> None:
        queue = make_queue(work, max_batch=2, max_waiting=2, threads=2)
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

    run_soon(test())


def test_an_item_that_finds_no_room_is_no_longer_announced(gate, make_queue):
    async def test() -> None:
        queue = make_queue(gate.work, max_batch=8, max_waiting=1, delay_s=10 * LONG_S)
        (running, waiting) = await blocked(queue, gate, [1])
        with queue.coming() as announced:
            with pytest.raises(Full):
                await queue.submit(2, announced)
            gate.let_go(2)  # the second batch waits for nobody
            assert [await running, await waiting] == [0, 10]

    run_soon(test())


def test_items_whose_callers_have_left_are_left_out(gate, make_queue):
    async def test() -> None:
        queue = make_queue(gate.work, max_batch=3)
        tasks = await blocked(queue, gate, [1, 2, 3, 4, 5, 6, 7])
        for number in (2, 4, 5, 6):  # 4, 5 and 6 are a whole batch
            tasks[number].cancel()
        gate.let_go(3)
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [answer for answer in answers if isinstance(answer, int)] == [0, 10, 30, 70]

    run_soon(test())
    assert gate.batches == [[0], [1, 3], [7]]


def test_one_who_leaves_while_the_batch_runs_takes_nothing_from_the_others(gate, make_queue):
    async def test() -> None:
        queue = make_queue(gate.work, max_batch=3)
        tasks = await blocked(queue, gate, [1, 2, 3])
        gate.let_go()
        assert await tasks[0] == 0
        assert await gate.begun()
        tasks[1].cancel()
        gate.let_go()
        assert await asyncio.gather(*tasks[2:]) == [20, 30]
        with pytest.raises(asyncio.CancelledError):
            await tasks[1]

    run_soon(test())


def test_what_the_work_raises_answers_all_of_its_batch_and_ends_nothing(make_queue):
    def work(items: Sequence[int]) -> list[int]:
        if -1 in items:
            raise KeyError("the model is gone")
        return list(items)

    async def test() -> None:
        queue = make_queue(work, max_batch=1)
        with pytest.raises(KeyError, match="the model is gone"):
            await queue.submit(-1)
        assert await queue.submit(4) == 4

    run_soon(test())


def test_every_waiting_caller_is_told_what_the_work_raised(gate, make_queue):
    def work(items: Sequence[int]) -> list[int | Exception]:
        answers = gate.work(items)
        if len(items) > 1:
            raise KeyError("gone")
        return answers

    async def test() -> list[object]:
        tasks = await blocked(make_queue(work, max_batch=3), gate, [1, 2, 3])
        gate.let_go(2)
        return list(await asyncio.gather(*tasks, return_exceptions=True))

    assert [type(answer) for answer in run_soon(test())] == [int, KeyError, KeyError, KeyError]


def test_an_exception_among_the_answers_is_raised_to_its_own_caller(gate, make_queue):
    def work(calls: Sequence[Callable[[], int]]) -> list[int | Exception]:
        gate.work([])
        return call_each(calls)

    def fail() -> int:
        raise KeyError("mine")

    async def test() -> list[object]:
        queue = make_queue(work, max_batch=3)
        tasks = [asyncio.ensure_future(queue.submit(lambda: 1))]
        assert await gate.begun()
        tasks += [asyncio.ensure_future(queue.submit(call)) for call in (lambda: 2, fail, lambda: 3)]
        await until(lambda: queue.waiting == 3)
        gate.let_go(2)
        return list(await asyncio.gather(*tasks, return_exceptions=True))

    first, second, third, fourth = run_soon(test())
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

    run_soon(test())
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
def test_nothing_of_a_finished_batch_is_kept_while_the_thread_waits(make_queue, work):
    async def ask(queue: WorkQueue[_Large, _Large]) -> list[weakref.ref[_Large]]:
        item = _Large()
        left = [weakref.ref(item)]
        with contextlib.suppress(KeyError):
            left.append(weakref.ref(await queue.submit(item)))
        return left

    async def test() -> None:
        queue = make_queue(work)
        left = await ask(queue)
        assert len(left) == (2 if work is _answer_each else 1)
        await until(lambda: all(reference() is None for reference in left))

    gc.collect()
    gc.disable()
    try:
        run_soon(test())
    finally:
        gc.enable()
