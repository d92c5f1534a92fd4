from __future__ import annotations

import datetime
import os
import uuid

import pytest

from store.errors import StoreError
from store.location import Store


@pytest.fixture(params=["local", "objects"])
def store(request, tmp_path):
    """A local folder, and a file system in memory that is handled as an object store is."""
    return Store(str(tmp_path / "store") if request.param == "local" else f"mock:///{uuid.uuid4().hex}")


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
