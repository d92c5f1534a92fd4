from __future__ import annotations

import threading

import pytest

from transforms.measured import Measured


def test_each_number_is_taken_once():
    measured = Measured()
    measured.note("a", 1)
    measured.note("b", 2)
    assert [*measured.take()] == [("a", 1), ("b", 2)]
    assert [*measured.take()] == []


def test_a_block_that_fails_is_not_timed():
    measured = Measured()
    with pytest.raises(ZeroDivisionError), measured.time("ms"):
        _ = 1 / 0
    with measured.time("ms"):
        pass
    (noted,) = measured.take()
    assert noted[0] == "ms"
    assert noted[1] >= 0


def test_nothing_that_threads_note_is_lost():
    measured = Measured()

    def note() -> None:
        for _ in range(1000):
            measured.note("n", 1)

    threads = [threading.Thread(target=note) for _ in range(8)]
    for thread in threads:
        thread.start()
    taken = 0
    while any(thread.is_alive() for thread in threads):
        taken += sum(value for _, value in measured.take())
    assert taken + sum(value for _, value in measured.take()) == 8000


def test_short_times_add_up():
    measured = Measured()
    for value in (0.25, 3, 0.25, 0.25, 4, 0.25, 0.25):
        measured.note("ms" if isinstance(value, float) else "n", value)
    taken = [*measured.take()]
    assert [value for name, value in taken if name == "ms"] == [0, 0, 0, 1, 0]
    assert [value for name, value in taken if name == "n"] == [3, 4]
    measured.note("ms", 0.75)
    assert [*measured.take()] == [("ms", 1)]
