from __future__ import annotations

import datetime
import os
import uuid

import pytest

from store.errors import StoreError, UserError
from store.location import Store
from tests.support import gcs_server as gcs
from tests.support import s3_server as s3
from tests.support.faulty_proxy import FAULTS, FaultyProxy


@pytest.fixture(
    params=["local", "memory", pytest.param("s3", marks=pytest.mark.s3), pytest.param("gcs", marks=pytest.mark.gcs)]
)
def store(request, tmp_path):
    """A local folder, a file system in memory that is handled as no disk is, and buckets on real servers."""
    if request.param in ("s3", "gcs"):
        return request.getfixturevalue(f"{request.param}_store")
    return Store(str(tmp_path / "store") if request.param == "local" else f"mock:///{uuid.uuid4().hex}")


@pytest.fixture
def s3_store(s3_server, monkeypatch):
    point_to(monkeypatch, s3.s3_environment(s3_server.url))
    return Store(f"s3://{s3.new_bucket(s3_server.url)}/a store")


@pytest.fixture
def gcs_store(gcs_server, monkeypatch):
    point_to(monkeypatch, gcs.gcs_environment(gcs_server.url))
    return Store(f"gs://{gcs.new_bucket(gcs_server.url)}/a store")


def point_to(monkeypatch, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def keys(server, store):
    bucket = store.uri.split("/")[2]
    listed = s3.s3_client(server.url).list_objects_v2(Bucket=bucket).get("Contents", [])
    return [entry["Key"] for entry in listed]


def test_only_a_local_store_has_paths_on_this_machine(tmp_path):
    assert Store(str(tmp_path)).local_path("a/b") == tmp_path / "a" / "b"
    assert Store("mock:///bucket").local_path("a/b") is None


def test_an_uploaded_file_is_whole_and_alone(store, tmp_path):
    content = os.urandom(5_000_000)  # more than one piece of the copy
    (tmp_path / "source").write_bytes(content)
    store.upload(tmp_path / "source", "a/b/file")
    assert store.read("a/b/file") == content
    store.upload(tmp_path / "source", "a/b/file")
    assert store.list("a/b") == ["file"]
    assert store.list("a") == ["b"]


def test_an_upload_that_fails_leaves_nothing(store, tmp_path, small_disk):
    with pytest.raises(StoreError, match=r"cannot write .*missing"):
        store.upload(tmp_path / "missing", "a/file")
    assert store.size_bytes("a/file") is None
    (tmp_path / "source").write_bytes(bytes(6_000_000))
    full = Store(str(small_disk))
    with pytest.raises(StoreError, match="no space left"):
        full.upload(tmp_path / "source", "a/file")
    assert full.list("a") == []


def test_a_file_that_an_error_cuts_short_does_not_look_whole(store):
    def write_a_part():
        with store.create("a/file") as stream:
            stream.write(bytes(11_000_000))  # more than one part of an upload
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_a_part()
    assert store.size_bytes("a/file") is None


@pytest.mark.s3
def test_writing_leaves_no_object_but_the_file(s3_store, s3_server, tmp_path):
    (tmp_path / "source").write_bytes(b"1")
    s3_store.replace("a/x", b"1")
    s3_store.upload(tmp_path / "source", "b/c/y")
    with s3_store.create("d/z") as stream:
        stream.write(b"1")
    assert keys(s3_server, s3_store) == ["a store/a/x", "a store/b/c/y", "a store/d/z"]


@pytest.mark.s3
def test_every_request_gets_through_to_a_server_that_fails_one_in_eight(s3_store, s3_server, monkeypatch):
    with FaultyProxy(s3_server.port, every=8) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        for number in range(40):
            s3_store.replace(f"a/{number:02}", b"%d" % number)
        with s3_store.create("a/large") as stream:
            for _ in range(6):
                stream.write(os.urandom(5_000_000))
        assert [s3_store.read(f"a/{number:02}") for number in range(40)] == [b"%d" % number for number in range(40)]
        assert s3_store.size_bytes("a/large") == 30_000_000
        assert len(s3_store.list("a")) == 41
        s3_store.remove_folder("a")
        assert s3_store.list("a") == []
        assert set(proxy.faults) == set(FAULTS)


@pytest.mark.s3
def test_what_a_server_refuses_is_one_line(s3_store, monkeypatch):
    with pytest.raises(StoreError, match=r"cannot write s3://no-such-bucket/store/x: [^\n]+$"):
        Store("s3://no-such-bucket/store").replace("x", b"1")
    with pytest.raises(FileNotFoundError):
        s3_store.read("missing")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "localhost:9000")
    with pytest.raises(UserError, match="AWS_ENDPOINT_URL: expected http://host:port"):
        s3_store.list("x")


@pytest.mark.parametrize("uri", ["s3://", "gs:///path"])
def test_a_uri_without_bucket_is_the_callers_mistake(uri):
    with pytest.raises(UserError, match="expected a bucket's name"):
        Store(uri).list("x")


def test_touching_makes_a_file_and_leaves_one_that_is_there(tmp_path):
    store = Store(str(tmp_path / "store"))
    store.touch("a/x")
    assert store.read("a/x") == b""
    store.replace("a/x", b"1")
    store.touch("a/x")
    assert store.read("a/x") == b"1"
    assert store.list("a") == ["x"]


def test_a_name_that_is_taken_is_not_written_over(tmp_path):
    store = Store(str(tmp_path / "store"))
    store.replace("a/x", b"mine")
    with pytest.raises(StoreError, match=r"cannot write .*x: .*exists"), store.create("a/x") as stream:
        stream.write(b"theirs")
    assert store.read("a/x") == b"mine"


def test_what_is_removed_is_gone_and_the_rest_stays(store):
    for path in ("a/x", "a/deep/y", "b/z"):
        store.replace(path, b"1")
    store.remove("a/x")
    assert store.list("a") == ["deep"]
    store.remove_folder("a")
    assert store.list("a") == []
    assert store.read("b/z") == b"1"
    for path in ("a/x", "nowhere/x"):
        store.remove(path)
        store.remove_folder(path)


def test_what_cannot_be_deleted_is_one_line(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match=r"cannot delete .*folder"):
        Store(str(tmp_path)).remove("folder")


def test_size_and_age_are_those_of_all_files_below(store):
    assert (store.newest_change("a"), store.total_bytes("a")) == (None, 0)
    store.replace("a/x", b"123")
    store.replace("a/deep/y", b"4567")
    store.replace("b/z", b"8")
    assert (store.total_bytes("a"), store.total_bytes("a/deep"), store.total_bytes("a/x")) == (7, 4, 3)
    changed = store.newest_change("a")
    assert changed is not None
    assert changed.utcoffset() == datetime.timedelta(0)


def test_the_newest_file_tells_the_age_and_an_empty_folder_its_own(tmp_path):
    store = Store(str(tmp_path))
    for age, path in enumerate(("a/deep/new", "a/old"), start=1):
        store.replace(path, b"")
        os.utime(tmp_path / path, (1000.0 / age, 1000.0 / age))
    assert store.newest_change("a") == _at(1000)
    assert store.newest_change("a/old") == _at(500)
    (tmp_path / "empty").mkdir()
    os.utime(tmp_path / "empty", (700, 700))
    assert store.newest_change("empty") == _at(700)


def _at(unix_s: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(unix_s, datetime.timezone.utc)
