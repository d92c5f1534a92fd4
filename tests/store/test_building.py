from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import threading

import pytest

import store.building as building_module
from store.building import BUILDING_FILE, Building, read_sign
from store.errors import StoreError
from store.index import version_folder
from store.location import Store
from tests.support.versions import name_of

VERSION, SNAPSHOT = name_of(2), name_of(1)
PATH = f"{version_folder(VERSION)}/{BUILDING_FILE}"
MINUTE = datetime.timedelta(minutes=1)


def is_being_built(store, version, at):
    sign = read_sign(store, version)
    return sign is not None and sign.is_alive(at)


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


@pytest.fixture
def place(tmp_path):
    return Store(str(tmp_path))


def leave_sign(store: Store, **changes: object) -> None:
    """The sign of a builder that was killed."""
    with Building(store, VERSION, SNAPSHOT):
        sign = json.loads(store.read(PATH))
    store.replace(PATH, json.dumps({**sign, **changes}).encode())


def test_the_sign_stands_while_the_block_runs(place):
    with Building(place, VERSION, SNAPSHOT):
        sign = read_sign(place, VERSION)
        assert sign is not None
        assert (sign.version, sign.snapshot, sign.pid) == (VERSION, SNAPSHOT, os.getpid())
        assert is_being_built(place, VERSION, now())
        assert not is_being_built(place, name_of(3), now())
    assert not is_being_built(place, VERSION, now())
    assert place.list(version_folder(VERSION)) == []


def test_an_error_takes_the_sign_away_and_stays_the_same_error(place, monkeypatch):
    with pytest.raises(ZeroDivisionError), Building(place, VERSION, SNAPSHOT):
        raise ZeroDivisionError
    assert place.size_bytes(PATH) is None

    def fail(self, path):
        raise StoreError(path)

    monkeypatch.setattr(Store, "remove", fail)
    with pytest.raises(ZeroDivisionError), Building(place, VERSION, SNAPSHOT):
        raise ZeroDivisionError


def test_a_builder_is_dead_after_15_minutes_of_silence(place):
    with Building(place, VERSION, SNAPSHOT):
        assert is_being_built(place, VERSION, now() + 14 * MINUTE)
        assert not is_being_built(place, VERSION, now() + 16 * MINUTE)


def test_the_sign_is_renewed_even_after_the_store_was_away(place, monkeypatch):
    renewed, writes, plain = threading.Event(), [], Store.replace

    def replace(self, path, data):
        writes.append(data)
        if len(writes) == 2:
            raise StoreError("away")
        plain(self, path, data)
        if len(writes) > 2:
            renewed.set()

    monkeypatch.setattr(Store, "replace", replace)
    monkeypatch.setattr(building_module, "_EVERY_S", 0.001)
    with Building(place, VERSION, SNAPSHOT):
        assert renewed.wait(120)
        assert is_being_built(place, VERSION, now())
    assert place.size_bytes(PATH) is None


def test_a_builder_of_this_machine_is_dead_once_its_process_is_gone(place):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    leave_sign(place, pid=gone.pid)
    assert not is_being_built(place, VERSION, now())


def test_a_builder_of_another_machine_is_judged_by_its_silence_alone(place):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    leave_sign(place, pid=gone.pid, host="elsewhere")
    assert is_being_built(place, VERSION, now())
    assert not is_being_built(place, VERSION, now() + 16 * MINUTE)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"version": 1, "more": 2}'])
def test_a_sign_that_cannot_be_read_is_none(place, content):
    place.replace(PATH, content)
    assert read_sign(place, VERSION) is None
    assert not is_being_built(place, VERSION, now())
