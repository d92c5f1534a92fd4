from __future__ import annotations

import itertools
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from store import conditional, objects
from store.conditional import read_versioned, write_if
from store.errors import StoreError, UserError
from store.location import Store
from store.objects import OtherWriter, Versioned
from tests.support import gcs_server as gcs
from tests.support import s3_server as s3
from tests.support.faulty_proxy import FaultyProxy

ROOT = Path(__file__).resolve().parent.parent.parent
PATH = "locks/x.json"

# Adds one, again and again, each time by a conditional write of a line nobody else writes.
COUNT_UP = """
import sys
from store.conditional import read_versioned, write_if
from store.location import Store
store, name, times = Store(sys.argv[1]), sys.argv[2], int(sys.argv[3])
for _ in range(times):
    while True:
        found = read_versioned(store, "counter")
        number = int(found.data.split()[0]) if found else 0
        if write_if(store, "counter", f"{number + 1} {name}".encode(), found.token if found else None) is not None:
            break
"""


def point_to(monkeypatch, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def s3_store(s3_server, monkeypatch):
    point_to(monkeypatch, s3.s3_environment(s3_server.url))
    return Store(f"s3://{s3.new_bucket(s3_server.url)}/a/b")


@pytest.fixture
def gcs_store(gcs_server, monkeypatch):
    point_to(monkeypatch, gcs.gcs_environment(gcs_server.url))
    return Store(f"gs://{gcs.new_bucket(gcs_server.url)}/a/b")


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.s3), pytest.param("gcs", marks=pytest.mark.gcs)])
def store(request, tmp_path):
    return Store(str(tmp_path)) if request.param == "local" else request.getfixturevalue(f"{request.param}_store")


def test_a_write_succeeds_only_on_what_was_read(store):
    assert read_versioned(store, PATH) is None
    first = write_if(store, PATH, b"1", None)
    assert first is not None
    assert write_if(store, PATH, b"other", None) is None
    second = write_if(store, PATH, b"2", first)
    assert second not in (None, first)
    assert write_if(store, PATH, b"3", first) is None
    found = read_versioned(store, PATH)
    assert found == Versioned(b"2", second)
    assert store.read(PATH) == b"2"


def test_a_file_that_went_away_is_not_written(store):
    token = write_if(store, PATH, b"1", None)
    assert token is not None
    store.remove(PATH)
    assert write_if(store, PATH, b"2", token) is None
    assert read_versioned(store, PATH) is None
    assert write_if(store, PATH, b"3", None) is not None


def test_processes_that_race_lose_no_write(store):
    processes, times = 4, 15
    running = [
        subprocess.Popen([sys.executable, "-c", COUNT_UP, store.uri, str(number), str(times)], cwd=ROOT)
        for number in range(processes)
    ]
    assert [process.wait(120) for process in running] == [0] * processes
    assert store.read("counter").split()[0] == str(processes * times).encode()


class Deaf:
    """A cell that carries writes out as told, but may say that it did not."""

    def __init__(self, cell, refusals):
        self.cell, self.refusals = cell, refusals

    def read(self):
        return self.cell.read()

    def write(self, data, token):
        if next(self.refusals, False):
            self.cell.write(data, token)
            raise OtherWriter
        return self.cell.write(data, token)


def test_a_refusal_of_what_did_arrive_is_a_success(tmp_path, monkeypatch):
    store, plain = Store(str(tmp_path)), conditional._cell
    monkeypatch.setattr(conditional, "_cell", lambda place, path: Deaf(plain(place, path), iter([True])))
    token = write_if(store, PATH, b"mine", None)
    assert token is not None
    assert write_if(store, PATH, b"next", token) is not None


class Away:
    """A cell whose server carries writes out as told, or not, and does not say so; then it may be away for good."""

    def __init__(self, cell, carried_out, readable):
        self.cell, self.carried_out, self.readable = cell, carried_out, readable

    def read(self):
        if not self.readable:
            raise StoreError("cannot read it")
        return self.cell.read()

    def write(self, data, token):
        if self.carried_out:
            self.cell.write(data, token)
        raise StoreError("cannot write it")


@pytest.mark.parametrize("before", [None, b"before"])
def test_what_a_failed_write_did_is_read_back_and_nothing_is_deleted(tmp_path, monkeypatch, before):
    store, plain = Store(str(tmp_path)), conditional._cell
    token = write_if(store, PATH, before, None) if before else None

    def behave(carried_out, readable):
        monkeypatch.setattr(conditional, "_cell", lambda place, path: Away(plain(place, path), carried_out, readable))

    behave(carried_out=False, readable=True)
    with pytest.raises(StoreError, match=r"^cannot write it$"):
        write_if(store, PATH, b"lost", token)
    behave(carried_out=False, readable=False)
    with pytest.raises(StoreError, match="cannot write it; nor can it be read back"):
        write_if(store, PATH, b"lost", token)
    assert (store.read(PATH) if store.size_bytes(PATH) is not None else None) == before
    behave(carried_out=True, readable=True)
    assert write_if(store, PATH, b"arrived", token) is not None
    assert store.read(PATH) == b"arrived"


def test_a_refusal_without_a_rival_is_tried_again_and_not_for_ever(tmp_path, monkeypatch):
    store, plain = Store(str(tmp_path)), conditional._cell

    class Busy(Deaf):
        def write(self, data, token):
            if next(self.refusals):
                raise OtherWriter
            return self.cell.write(data, token)

    monkeypatch.setattr(conditional, "_cell", lambda place, path: Busy(plain(place, path), iter([True, True, False])))
    assert write_if(store, PATH, b"mine", None) is not None
    monkeypatch.setattr(conditional, "_cell", lambda place, path: Busy(plain(place, path), itertools.repeat(True)))
    with pytest.raises(StoreError, match="refused 10 times"):
        write_if(store, "other", b"mine", None)


@pytest.mark.s3
def test_every_write_is_counted_once_on_a_server_that_loses_answers(s3_server, monkeypatch):
    with FaultyProxy(s3_server.port, every=5) as proxy:
        point_to(monkeypatch, s3.s3_environment(proxy.url))
        store = Store(f"s3://{s3.new_bucket(s3_server.url)}")
        token = None
        for number in range(60):
            token = write_if(store, PATH, b"%d" % number, token)
            assert token is not None
        assert token is not None
        assert read_versioned(store, PATH) == Versioned(b"59", token)
        assert sum(answer.startswith("PUT") for answer in proxy.lost_answers) >= 5


@pytest.mark.s3
def test_a_bucket_that_is_not_there_is_one_line(s3_store):
    missing = Store(f"s3://no-such-bucket-{uuid.uuid4().hex[:8]}")
    for act in (lambda: read_versioned(missing, PATH), lambda: write_if(missing, PATH, b"1", None)):
        with pytest.raises(StoreError, match=r"cannot (read|write) s3://no-such-bucket-\S+: [^\n]+$"):
            act()


@pytest.mark.gcs
def test_a_bucket_of_google_that_is_not_there_is_one_line(gcs_store):
    with pytest.raises(StoreError, match=r"cannot write gs://no-such-bucket\S+: [^\n]+$"):
        write_if(Store("gs://no-such-bucket"), PATH, b"1", None)


@pytest.mark.parametrize(("uri", "extra"), [("s3://bucket", "aws"), ("gs://bucket", "gcp")])
def test_a_missing_library_is_named_with_what_installs_it(uri, extra, monkeypatch):
    def refuse(name, *rest):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("importlib.import_module", refuse)
    objects._s3_client.cache_clear()
    objects._gcs_client.cache_clear()
    with pytest.raises(UserError, match=rf"pip install 'shelfmark\[{extra}\]'"):
        read_versioned(Store(uri), PATH)


def test_a_store_without_conditional_writes_is_the_callers_mistake():
    with pytest.raises(UserError, match="expected a local folder, s3:// or gs://"):
        read_versioned(Store(f"mock:///{uuid.uuid4().hex}"), PATH)
