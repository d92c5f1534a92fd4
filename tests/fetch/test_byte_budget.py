from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetch.byte_budget import FREE_BYTES, ByteBudget, read_bounded
from fetch.deadline import Deadline
from store.rejects import Rejected
from tests.support.fake_time import FakeTime

MIB = 1 << 20


def test_a_budget_is_never_overdrawn_and_always_given_back() -> None:
    budget, lock = ByteBudget(100), threading.Lock()
    held = peak = 0

    def borrow(amount: int) -> None:
        nonlocal held, peak
        with budget.hold(amount):
            with lock:
                held += amount
                peak = max(peak, held)
            time.sleep(0.0005)
            with lock:
                held -= amount

    rng = random.Random(5)
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(borrow, [rng.randint(1, 100) for _ in range(300)]))
    assert 50 < peak <= 100
    with budget.hold(100):  # would wait for ever if a byte had been lost
        pass
    with pytest.raises(ValueError, match="101"), budget.hold(101):
        pass


def test_a_big_request_is_not_starved_by_small_ones() -> None:
    budget, order = ByteBudget(10), []

    def borrow(name: str, amount: int) -> None:
        with budget.hold(amount):
            order.append(name)

    with budget.hold(5):
        big = threading.Thread(target=borrow, args=("big", 10))
        big.start()
        while not budget._waiting:
            time.sleep(0.001)
        small = threading.Thread(target=borrow, args=("small", 1))
        small.start()
        while len(budget._waiting) < 2 and not order:
            time.sleep(0.001)
    big.join(120)
    small.join(120)
    assert order == ["big", "small"]


@given(data=st.binary(max_size=200), chunk=st.integers(1, 50), limit=st.integers(1, 200))
def test_a_bounded_read_is_a_read_or_too_large(data: bytes, chunk: int, limit: int) -> None:
    pieces = [data[start : start + chunk] for start in range(0, len(data), chunk)]

    def read(_: int) -> bytes:
        return pieces.pop(0) if pieces else b""

    deadline = Deadline(FakeTime().clock, 1)
    if len(data) > limit:
        with pytest.raises(Rejected, match="too_large"):
            read_bounded(read, None, limit, ByteBudget(limit), deadline)
    else:
        assert read_bounded(read, None, limit, ByteBudget(limit), deadline) == data


@pytest.mark.parametrize(("announced", "borrowed"), [(None, 8 * MIB), (3 * MIB, 3 * MIB)])
def test_a_growing_download_borrows_what_it_may_still_need(announced: int | None, borrowed: int) -> None:
    budget, seen = ByteBudget(8 * MIB), []
    sizes = iter([FREE_BYTES, 1, MIB])

    def read(_: int) -> bytes:
        seen.append(budget._free_bytes)
        return bytes(next(sizes, 0))

    read_bounded(read, announced, 8 * MIB, budget, Deadline(FakeTime().clock, 1))
    assert seen == [8 * MIB, 8 * MIB, 8 * MIB - borrowed, 8 * MIB - borrowed]
    assert budget._free_bytes == 8 * MIB
