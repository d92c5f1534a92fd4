from __future__ import annotations

import pytest

from fetch.deadline import Deadline
from store.rejects import Rejected
from tests.support.fake_time import FakeTime


def test_a_paused_deadline_does_not_run() -> None:
    time_ = FakeTime()
    deadline = Deadline(time_.clock, 10)
    time_.sleep(4)
    with deadline.paused():
        time_.sleep(100)
    assert deadline.remaining_s() == pytest.approx(6)
    deadline.check()
    time_.sleep(6)
    with pytest.raises(Rejected, match="timeout"):
        deadline.check()
