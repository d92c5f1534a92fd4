from __future__ import annotations

import errno
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from store.errors import StoreError
from store.rejects import Reason, Rejected
from store.shortage import ShortageError
from transforms.brake import Brake


class Shortage:
    """A process that has room for so many at once, and says whether it is short."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.inside = self.most = self.failed = 0
        self.lock = threading.Lock()
        self.pauses: list[float] = []

    def __call__(self) -> str:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
            short = self.inside > self.room
            self.failed += short
        try:
            if short:
                raise OSError(errno.EMFILE, "Too many open files")
            return "done"
        finally:
            with self.lock:
                self.inside -= 1

    def brake(self, most: int = 8, *, lasts: bool = False) -> Brake:
        return Brake("fetches", most, Reason.FETCH_ERROR, self.pauses.append, is_short=lambda lack: lasts)


def test_what_goes_well_or_fails_otherwise_is_not_slowed_down():
    process = Shortage(8)
    brake = process.brake()
    assert brake.run(process) == "done"
    for error in (Rejected(Reason.NOT_FOUND, "x"), ZeroDivisionError(), StoreError("no space left on device")):

        def fail(error: Exception = error) -> None:
            raise error

        with pytest.raises(type(error)):
            brake.run(fail)
    assert (brake.allowed, process.pauses) == (8, [])


def test_a_passing_shortage_is_waited_out_with_fewer_at_once(caplog):
    tries = iter([MemoryError(), OSError(errno.ENOMEM, "x"), None])

    def act() -> int:
        error = next(tries)
        if error:
            raise error
        return 7

    process = Shortage(0)
    brake = process.brake(lasts=True)
    with caplog.at_level(logging.WARNING, "shelfmark"):
        logging.getLogger("shelfmark").propagate = True
        assert brake.run(act) == 7
    assert process.pauses == [0.25, 0.5]
    assert brake.allowed == 2
    assert "no memory left" in caplog.text
    assert "going on with 4 fetches at once" in caplog.text


def test_each_round_of_successes_lets_one_more_in():
    process = Shortage(0)
    brake = process.brake(most=4)
    with pytest.raises(Rejected):
        brake.run(process)
    assert brake.allowed == 1
    process.room = 99
    allowed = []
    for _ in range(7):
        brake.run(process)
        allowed.append(brake.allowed)
    assert allowed == [2, 2, 3, 3, 3, 4, 4]


def test_a_shortage_that_lasts_ends_the_run():
    process = Shortage(0)
    with pytest.raises(ShortageError, match="ulimit -n"):
        process.brake(lasts=True).run(process)
    assert process.failed == 8
    assert 20 < sum(process.pauses) < 60


def test_a_picture_that_alone_asks_for_too_much_is_a_passing_reject_soon():
    process = Shortage(0)
    with pytest.raises(Rejected, match="file descriptors") as caught:
        process.brake().run(process)
    assert caught.value.passing
    assert caught.value.reason is Reason.FETCH_ERROR
    assert sum(process.pauses) < 2


def test_never_more_than_allowed_are_inside_and_all_get_through():
    process = Shortage(3)
    brake = process.brake(most=16)
    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(lambda _: brake.run(process), range(400))) == {"done"}
    assert process.most <= 16
    assert process.inside == 0
