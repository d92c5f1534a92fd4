from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
from typing import Any

import pytest

from store.conditional import read_versioned
from store.errors import StoreError, UserError
from store.lease import Lease, LeaseHeld, lease_path
from store.lease_breaking import break_lease
from store.location import Store
from store.process import this_host

NOW = datetime.datetime(2026, 11, 21, tzinfo=datetime.timezone.utc)
PATH = lease_path("reindex")


def at(seconds: float) -> datetime.datetime:
    return NOW + datetime.timedelta(seconds=seconds)


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "store"))


def acquire(store: Store, seconds: float = 0.0, **options: Any) -> Lease:
    return Lease.acquire(store, clock=lambda: at(seconds), **options)


def hold(store: Store, seconds: float, host: str = "another 1 abc", pid: int = 1) -> Lease:
    """A lease of a machine whose clock says so many seconds after NOW."""
    lease = acquire(store, seconds)
    said = json.loads(store.read(PATH))
    store.replace(PATH, json.dumps({**said, "host": host, "pid": pid}).encode())
    return lease


def said(store: Store) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(store.read(PATH))
    return found


def test_the_number_goes_on_after_a_lease_was_broken(store):
    first = hold(store, 0)
    assert break_lease(store, at(1), force=True).broken
    assert (said(store)["fence"], said(store)["heartbeat_at"]) == (first.fence, at(1).isoformat())
    assert acquire(store, 2).fence == first.fence + 1


def test_nothing_to_unlock(store):
    found = break_lease(store, NOW, force=False)
    assert (found.broken, found.holder) == (False, None)
    assert "nothing to unlock" in found.found
    with acquire(store):
        pass
    before = store.read(PATH)
    for force in (False, True):
        assert not break_lease(store, NOW, force=force).broken
    assert store.read(PATH) == before


@pytest.mark.parametrize("silent_s", [0, 60, 119])
def test_a_holder_that_is_alive_keeps_its_lease_unless_forced(store, silent_s):
    hold(store, -silent_s)
    with pytest.raises(UserError, match=r"held by process 1 on another since .* alive; .* --force") as caught:
        break_lease(store, NOW, force=False)
    assert "\n" not in str(caught.value)
    assert not said(store)["released"]
    assert break_lease(store, NOW, force=True).broken
    assert said(store)["released"]
    acquire(store)


def test_a_holder_that_was_forced_out_finds_that_it_lost_and_publishes_nothing(store):
    with acquire(store) as lease:
        assert break_lease(store, NOW, force=True).broken
        with pytest.raises(StoreError, match="lost its lease"):
            lease.check()
        with acquire(store) as another:
            another.check()
            with pytest.raises(StoreError, match="lost its lease"):
                lease.check()


@pytest.mark.parametrize("silent_s", [121, 100_000])
def test_a_silent_holder_has_lost_it(store, silent_s):
    hold(store, -silent_s)
    assert break_lease(store, NOW, force=False).broken


def test_a_process_of_this_machine_that_is_gone_has_lost_it(store):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    hold(store, 0, this_host(), ended.pid)
    assert break_lease(store, NOW, force=False).broken


@pytest.mark.parametrize("ahead_s", [101, 3600, 10 * 365 * 86400])
def test_a_lease_from_a_clock_far_ahead_is_told_and_can_be_broken(store, ahead_s):
    hold(store, ahead_s)
    with pytest.raises(LeaseHeld, match=rf"clock is {ahead_s:,} s ahead .* shelfmark unlock --store") as caught:
        acquire(store)
    assert "\n" not in str(caught.value)
    found = break_lease(store, NOW, force=False)
    assert found.broken
    assert f"{ahead_s:,} s ahead" in found.found
    with acquire(store) as lease:
        lease.check()


def test_who_waits_is_told_of_a_clock_that_is_ahead(store):
    hold(store, 3600)
    told: list[str] = []
    with pytest.raises(LeaseHeld):
        acquire(store, wait_s=5, say=told.append, sleep=lambda seconds: None)
    assert len(told) == 1
    assert "3,600 s ahead" in told[0]
    assert "shelfmark unlock" in told[0]


def test_clocks_that_differ_a_little_say_nothing(store):
    hold(store, 99)
    with pytest.raises(LeaseHeld, match="try again later, or pass --wait"):
        acquire(store)
    with pytest.raises(UserError):
        break_lease(store, NOW, force=False)


def test_a_clock_that_was_set_back_here_does_not_cost_a_running_process_its_lease(store):
    hold(store, 3600, this_host(), os.getpid())
    with pytest.raises(UserError, match="it is alive"):
        break_lease(store, NOW, force=False)


@pytest.mark.parametrize("data", [b"", b"\x1b[2J", b"{}", b"[]", b'{"owner": "o"}', b"[" * 100_000])
def test_a_file_that_is_no_lease_is_broken_by_force_alone(store, data):
    store.replace(PATH, data)
    with pytest.raises(StoreError, match=r"expected a lease.* shelfmark unlock --store \S+ --force"):
        acquire(store)
    with pytest.raises(UserError, match="expected a lease"):
        break_lease(store, NOW, force=False)
    assert store.read(PATH) == data
    found = break_lease(store, NOW, force=True)
    assert (found.broken, found.holder) == (True, None)
    with acquire(store) as lease:
        lease.check()


def test_a_lease_that_is_taken_at_this_moment_stays(store, monkeypatch):
    hold(store, -500)

    def read_then_lose(place, path):
        found = read_versioned(place, path)
        acquire(store)
        return found

    monkeypatch.setattr("store.lease_breaking.read_versioned", read_then_lose)
    with pytest.raises(StoreError, match="at the same time"):
        break_lease(store, NOW, force=True)
    assert said(store)["pid"] == os.getpid()
    assert not said(store)["released"]
