from __future__ import annotations

import contextlib
import datetime
import json
import math
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from store import lease as lease_module
from store.conditional import write_if
from store.errors import StoreError
from store.lease import Lease, LeaseHeld
from store.location import Store
from tests.support import s3_server as s3
from tests.support.faulty_proxy import FaultyProxy

ROOT = Path(__file__).resolve().parent.parent.parent
PATH = "locks/reindex.json"

# Takes the lease, adds a line to a file by reading and writing it, and leaves; no line is lost if it is alone.
WORK = """
import math, sys
from pathlib import Path
from store.lease import Lease
from store.location import Store
diary = Path(sys.argv[2])
for number in range(int(sys.argv[3])):
    with Lease.acquire(Store(sys.argv[1]), wait_s=math.inf, sleep=lambda seconds: None) as lease:
        lease.check()
        before = diary.read_text() if diary.exists() else ""
        diary.write_text(before + "line\\n")
"""
DIE = """
import os, sys
from store.lease import Lease
from store.location import Store
with Lease.acquire(Store(sys.argv[1])):
    os.kill(os.getpid(), 9)
"""


class Clock:
    def __init__(self) -> None:
        self.now = datetime.datetime(2026, 11, 21, tzinfo=datetime.timezone.utc)

    def __call__(self) -> datetime.datetime:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += datetime.timedelta(seconds=seconds)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def s3_store(s3_server, monkeypatch):
    for name, value in s3.s3_environment(s3_server.url).items():
        monkeypatch.setenv(name, value)
    return Store(f"s3://{s3.new_bucket(s3_server.url)}/store")


@pytest.fixture
def faulty_store(s3_store, s3_server, monkeypatch):
    with FaultyProxy(s3_server.port) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield s3_store


@pytest.fixture(params=["local", *(pytest.param(kind, marks=pytest.mark.s3) for kind in ("s3", "faulty"))])
def store(request, tmp_path):
    return (
        Store(str(tmp_path / "store"))
        if request.param == "local"
        else request.getfixturevalue(f"{request.param}_store")
    )


def holder_in(store):
    return json.loads(store.read(PATH))


def take(store, clock, **options):
    return Lease.acquire(store, clock=clock, **options)


def test_a_lease_is_held_until_the_block_ends(store, clock):
    with take(store, clock) as lease:
        lease.check()
        with pytest.raises(LeaseHeld, match=r"held by process \d+ on \S+ since 2026-11-21T00:00:00, expires "):
            take(store, clock)
    assert holder_in(store)["released"]
    with take(store, clock) as again:
        again.check()


def test_the_number_of_a_lease_rises_with_every_acquisition(store, clock):
    fences = []
    for above in (0, 0, 9, 3):
        with Lease.acquire(store, fence_above=above, clock=clock) as lease:
            lease.check()
            fences.append(lease.fence)
    assert fences == [1, 2, 10, 11]
    store.remove(PATH)
    assert Lease.acquire(store, fence_above=11, clock=clock).fence == 12, "the file was deleted; CURRENT knows better"


def test_a_lease_of_an_older_release_is_followed_by_the_first_number(store, clock):
    Lease.acquire(store, clock=clock)
    said = json.loads(store.read(PATH))
    del said["fence"]
    store.replace(PATH, json.dumps({**said, "released": True, "of a later release": 1}).encode())
    assert Lease.acquire(store, clock=clock).fence == 1


def test_names_are_leases_of_their_own(store, clock):
    with take(store, clock), Lease.acquire(store, "other", clock=clock) as other:
        other.check()


def test_a_silent_owner_loses_it_after_its_life_and_can_publish_nothing(store, clock):
    silent = take(store, clock)
    clock.pass_by(119)
    with pytest.raises(LeaseHeld):
        take(store, clock)
    clock.pass_by(2)
    with take(store, clock) as taken:
        with pytest.raises(StoreError, match=r"lost its lease, held by process"):
            silent.check()
        taken.check()
        silent._write(released=True)
        assert not holder_in(store)["released"]
        taken.check()


def test_a_silent_owner_that_nobody_replaced_goes_on(store, clock):
    with take(store, clock) as lease:
        clock.pass_by(1000)
        lease.check()
        with pytest.raises(LeaseHeld):
            take(store, clock)


def test_a_deleted_lease_is_lost(store, clock):
    with take(store, clock) as lease:
        store.remove(PATH)
        with pytest.raises(StoreError, match="the file was deleted"):
            lease.check()
    assert store.size_bytes(PATH) is None


def test_waiting_ends_when_the_owner_leaves(store, clock):
    said: list[str] = []
    owner = take(store, clock)

    def sleep(seconds):
        clock.pass_by(seconds)
        if clock.now.minute:
            owner.__exit__(None, None, None)

    owner.__enter__()
    with take(store, clock, wait_s=math.inf, sleep=sleep, say=said.append) as lease:
        lease.check()
    assert clock.now.minute == 1
    assert len(said) == 1
    assert said[0].startswith("waiting: the lease is held by process")


def test_waiting_has_its_end(store, clock):
    slept: list[float] = []
    with take(store, clock), pytest.raises(LeaseHeld):
        take(store, clock, wait_s=12, sleep=slept.append)
    assert slept == [5, 5, 2]


def test_a_lease_of_a_process_that_was_killed_is_free_at_once(store, clock):
    assert subprocess.run([sys.executable, "-c", DIE, store.uri], cwd=ROOT, check=False).returncode == -9
    assert not holder_in(store)["released"]
    with Lease.acquire(store) as lease:
        lease.check()


def test_a_lease_of_another_machine_is_judged_by_its_silence_alone(store, clock):
    with take(store, clock):
        pass
    store.replace(PATH, json.dumps({**holder_in(store), "host": "elsewhere", "released": False}).encode())
    with pytest.raises(LeaseHeld, match="on elsewhere since"):
        take(store, clock)
    clock.pass_by(121)
    take(store, clock).check()


def test_of_many_processes_one_works_at_a_time(store, tmp_path):
    processes, times = 4, 8
    arguments = [store.uri, str(tmp_path / "diary"), str(times)]
    running = [subprocess.Popen([sys.executable, "-c", WORK, *arguments], cwd=ROOT) for _ in range(processes)]
    assert [process.wait(120) for process in running] == [0] * processes
    assert len((tmp_path / "diary").read_text().splitlines()) == processes * times


@pytest.fixture
def place(tmp_path):
    return Store(str(tmp_path / "store"))


def test_of_threads_that_see_a_dead_lease_one_gets_it(place, clock):
    take(place, clock)
    clock.pass_by(1000)
    got, together = [], threading.Barrier(8)

    def try_once():
        together.wait()
        with contextlib.suppress(LeaseHeld):
            got.append(take(place, clock))

    threads = [threading.Thread(target=try_once) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1


def away(*arguments):
    raise StoreError("away")


def test_a_store_that_is_away_is_borne_for_less_than_a_life(place, clock, monkeypatch):
    with take(place, clock) as lease:
        monkeypatch.setattr(lease_module, "write_if", away)
        clock.pass_by(90)
        lease.check()
        clock.pass_by(11)
        with pytest.raises(StoreError, match=r"could not be renewed for 101 s: away"):
            lease.check()
        monkeypatch.undo()
        with pytest.raises(StoreError, match="could not be renewed"):
            lease.check()


def test_a_word_that_arrived_without_an_answer_is_known_again(place, clock, monkeypatch):
    def write_and_lose(*arguments):
        assert write_if(*arguments) is not None
        raise StoreError("the answer is lost")

    with take(place, clock) as lease:
        monkeypatch.setattr(lease_module, "write_if", write_and_lose)
        clock.pass_by(20)
        lease.check()
        monkeypatch.undo()
        clock.pass_by(20)
        lease.check()
        assert holder_in(place)["heartbeat_at"] == clock.now.isoformat()


def test_the_lease_is_renewed_by_itself_even_after_the_store_was_away(place, monkeypatch):
    renewed, writes = threading.Event(), []

    def write(*arguments):
        writes.append(arguments)
        if len(writes) == 2:
            raise StoreError("away")
        if len(writes) > 3:
            renewed.set()
        return write_if(*arguments)

    monkeypatch.setattr(lease_module, "_EVERY_S", 0.001)
    monkeypatch.setattr(lease_module, "write_if", write)
    with Lease.acquire(place) as lease:
        assert renewed.wait(120)
        lease.check()
    assert holder_in(place)["released"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"owner": 1}'])
def test_a_file_that_is_no_lease_is_not_written_over(place, clock, content):
    place.replace(PATH, content)
    with pytest.raises(StoreError, match=r"expected a lease, found .*shelfmark unlock"):
        take(place, clock)
    assert place.read(PATH) == content
