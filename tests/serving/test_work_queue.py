"""Batches, bounds and endings of the queues between requests and threads."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.work_queue import Full, WorkQueue
from tests.support.gated_work import LONG_S, blocked, run_soon


def test_what_waits_while_a_batch_runs_becomes_the_next_batches_in_the_order_it_came(gate, make_queue):
    async def test() -> list[int]:
        tasks = await blocked(make_queue(gate.work, max_batch=3), gate, range(1, 8))
        gate.let_go(4)
        return await asyncio.gather(*tasks)

    assert run_soon(test()) == [0, 10, 20, 30, 40, 50, 60, 70]
    assert gate.batches == [[0], [1, 2, 3], [4, 5, 6], [7]]


def test_threads_work_at_the_same_time(gate, make_queue):
    async def test() -> None:
        queue = make_queue(gate.work, threads=3)
        tasks = [asyncio.ensure_future(queue.submit(item)) for item in range(4)]
        for _ in range(3):
            assert await gate.begun()
        assert queue.waiting == 1
        gate.let_go(4)
        assert await asyncio.gather(*tasks) == [0, 10, 20, 30]

    run_soon(test())


def test_nobody_waits_when_nobody_is_coming(gate, make_queue):
    async def test() -> None:
        gate.let_go()
        assert await make_queue(gate.work, max_batch=4, delay_s=10 * LONG_S).submit(7) == 70

    run_soon(test())


def test_a_batch_waits_for_what_was_announced(gate, make_queue):
    async def test() -> None:
        queue = make_queue(gate.work, max_batch=4, delay_s=10 * LONG_S, threads=2)
        with queue.coming() as announced:
            first = asyncio.ensure_future(queue.submit(1))
            assert not await gate.begun(0.05)
            second = asyncio.ensure_future(queue.submit(2, announced))
            assert await gate.begun()
        gate.let_go()
        assert [await first, await second] == [10, 20]

    run_soon(test())
    assert gate.batches == [[1, 2]]


def test_a_batch_stops_waiting_for_what_will_not_come(gate, make_queue):
    async def test() -> None:
        queue = make_queue(gate.work, max_batch=4, delay_s=10 * LONG_S)
        with queue.coming():
            first = asyncio.ensure_future(queue.submit(1))
            with contextlib.suppress(KeyError), queue.coming():
                assert not await gate.begun(0.05)
                raise KeyError("no picture")
            assert not await gate.begun(0.05)  # for the other may come
        assert await gate.begun()
        gate.let_go()
        assert await first == 10

    run_soon(test())


def test_an_announcement_counts_once_though_it_is_submitted_and_its_block_ends(gate, make_queue):
    async def test() -> None:
        queue = make_queue(gate.work, max_batch=4, delay_s=10 * LONG_S)
        gate.let_go()
        with queue.coming() as announced:
            assert await queue.submit(1, announced) == 10
        assert await gate.begun()
        with queue.coming():  # were the first counted off twice, this one would count for nothing
            later = asyncio.ensure_future(queue.submit(2))
            assert not await gate.begun(0.05)
        gate.let_go()
        assert await later == 20

    run_soon(test())


def test_a_full_batch_waits_for_nobody(gate, make_queue):
    async def test() -> None:
        queue = make_queue(gate.work, max_batch=2, delay_s=10 * LONG_S)
        with queue.coming():
            gate.let_go()
            assert list(await asyncio.gather(queue.submit(1), queue.submit(2))) == [10, 20]

    run_soon(test())
    assert gate.batches == [[1, 2]]


@pytest.mark.parametrize("threads", [1, 3])
def test_the_longest_wait_is_counted_from_the_first_of_a_batch(gate, make_queue, threads):
    delay_s = 0.15

    async def test() -> list[int]:
        queue = make_queue(gate.work, max_batch=10_000, max_waiting=10_000, delay_s=delay_s, threads=threads)
        with queue.coming():
            started_s = time.monotonic()
            tasks = [asyncio.ensure_future(queue.submit(0))]
            while not await gate.begun(0.005):  # each would put the end off, were it counted from the last
                tasks.append(asyncio.ensure_future(queue.submit(len(tasks))))
                assert time.monotonic() < started_s + LONG_S
            assert time.monotonic() >= started_s + delay_s
            gate.let_go(10)
        return [await task for task in tasks]

    answers = run_soon(test())
    assert answers == [10 * item for item in range(len(answers))]


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

    for number, (how, answer) in run_soon(test()).items():
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
