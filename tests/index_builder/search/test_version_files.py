"""This machine's copy of a version: made once, whole, and kept for as long as somebody has it open."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

import index_builder.search.version_files
from index_builder.search.version_files import fetch_missing, forget_copy, open_version
from store.errors import StoreError
from store.index import IndexManifest, read_index_manifest, version_folder
from store.location import Store
from tests.support.killed import ROOT
from tests.support.versions import CONTENT, add_version, files_below

VECTORS = "shard-00000/vectors.npy"


@pytest.fixture
def store() -> Store:
    """A file system in memory that is handled as an object store is."""
    return Store(f"mock:///{uuid.uuid4().hex}")


@pytest.fixture
def manifest(store: Store) -> IndexManifest:
    return read_index_manifest(store, add_version(store, 1))


@pytest.fixture(autouse=True)
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the copies are."""
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "machine"))
    yield tmp_path / "machine" / "shelfmark-indexes"
    for uses in index_builder.search.version_files._USES.values():
        while uses:
            os.close(uses.pop())


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What has been downloaded."""
    paths, plain = list[str](), Store.open

    def noted(self: Store, path: str) -> pa.NativeFile:
        paths.append(path)
        return plain(self, path)

    monkeypatch.setattr(Store, "open", noted)
    return paths


def damage(store: Store, manifest: IndexManifest) -> None:
    """Another byte in the vectors, the size as it was."""
    store.replace(f"{version_folder(manifest.version)}/{VECTORS}", b"\xff" + CONTENT[1:])


def test_what_is_there_is_not_downloaded_again(store: Store, manifest: IndexManifest, downloads: list[str]) -> None:
    folder = open_version(store, manifest)
    assert (folder / VECTORS).read_bytes() == CONTENT
    assert open_version(store, manifest, verify=True) == folder
    assert len(downloads) == 1


def test_of_two_that_open_a_version_at_once_one_downloads_it(
    store: Store, manifest: IndexManifest, monkeypatch: pytest.MonkeyPatch, downloads: list[str]
) -> None:
    both_want_it, wanting, lock, noted = threading.Event(), list[int](), fcntl.flock, Store.open

    def seen_lock(descriptor: int, operation: int) -> None:
        if operation == fcntl.LOCK_EX:
            wanting.append(descriptor)
            if len(wanting) == 2:
                both_want_it.set()
        lock(descriptor, operation)

    def slow_open(self: Store, path: str) -> pa.NativeFile:
        assert both_want_it.wait(120)
        return noted(self, path)

    monkeypatch.setattr(fcntl, "flock", seen_lock)
    monkeypatch.setattr(Store, "open", slow_open)
    with ThreadPoolExecutor(2) as pool:
        folders = [one.result() for one in [pool.submit(open_version, store, manifest) for _ in range(2)]]
    assert len(downloads) == 1
    assert [(folder / VECTORS).read_bytes() for folder in folders] == [CONTENT, CONTENT]


KILLED = """
import shutil, sys
from index_builder.search.version_files import open_version
from store.index import read_index_manifest
from store.location import Store

def half(source, sink, length):
    sink.write(source.read(100))
    sink.flush()
    print("half", flush=True)
    sys.stdin.read()

Store.local_path = lambda self, path: None
shutil.copyfileobj = half
store = Store(sys.argv[1])
open_version(store, read_index_manifest(store, sys.argv[2]))
"""


def test_a_killed_download_leaves_nothing_to_the_next(
    tmp_path: Path, copies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(str(tmp_path / "store"))
    manifest = read_index_manifest(store, add_version(store, 1))
    copies.parent.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, store.uri, manifest.version],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(copies.parent)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half\n"
        process.kill()
    monkeypatch.setattr(Store, "local_path", lambda self, path: None)
    assert len(files_below(copies)) == 2, "the lock and a part"
    assert (open_version(store, manifest) / VECTORS).read_bytes() == CONTENT
    assert files_below(copies) == {f"{manifest.version}/{name}" for name in (VECTORS, ".download.lock")}
    forget_copy(store, manifest.version)
    assert list(copies.iterdir()) == []


def test_a_download_is_compared_with_the_manifest_and_what_lies_there_is_not(
    store: Store, manifest: IndexManifest
) -> None:
    folder = open_version(store, manifest)
    (folder / VECTORS).write_bytes(b"\xff" + CONTENT[1:])
    open_version(store, manifest)
    damage(store, manifest)
    (folder / VECTORS).unlink()
    with pytest.raises(StoreError, match=r"vectors\.npy: expected SHA-256 .* damaged"):
        open_version(store, manifest)


def test_a_copy_goes_with_the_last_who_has_it_open(store: Store, manifest: IndexManifest, copies: Path) -> None:
    folder = open_version(store, manifest)
    assert open_version(store, manifest) == folder  # a rollback, while the last request on the old one goes on
    forget_copy(store, manifest.version)
    assert (folder / VECTORS).is_file()
    with open(folder / VECTORS, "rb") as still_open:
        forget_copy(store, manifest.version)
        assert list(copies.iterdir()) == []
        assert still_open.read() == CONTENT
    forget_copy(store, manifest.version)  # nothing is left to forget, which is no error
    assert (open_version(store, manifest) / VECTORS).is_file()


def test_a_copy_that_another_process_has_open_stays(store: Store, manifest: IndexManifest) -> None:
    folder = open_version(store, manifest)
    other = os.open(folder, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_SH)
    forget_copy(store, manifest.version)
    assert (folder / VECTORS).is_file()
    os.close(other)
    forget_copy(store, manifest.version)
    assert not folder.exists()


def test_a_copy_that_is_being_made_stays(
    store: Store, manifest: IndexManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Store.open

    def forgotten_meanwhile(self: Store, path: str) -> pa.NativeFile:
        forget_copy(store, manifest.version)
        return plain(self, path)

    monkeypatch.setattr(Store, "open", forgotten_meanwhile)
    assert (open_version(store, manifest) / VECTORS).read_bytes() == CONTENT


def test_a_copy_that_goes_while_somebody_waits_for_it_is_made_anew(
    store: Store, manifest: IndexManifest, monkeypatch: pytest.MonkeyPatch, downloads: list[str]
) -> None:
    folder = open_version(store, manifest)
    plain, gone = fcntl.flock, list[Path]()

    def deleted_meanwhile(descriptor: int, operation: int) -> None:
        if operation == fcntl.LOCK_SH and not gone:
            gone.append(folder)
            shutil.rmtree(folder)
        plain(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", deleted_meanwhile)
    assert (open_version(store, manifest) / VECTORS).read_bytes() == CONTENT
    assert gone == [folder]
    assert len(downloads) == 2


def test_only_the_copy_that_was_locked_is_deleted(
    store: Store, manifest: IndexManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = open_version(store, manifest)
    plain = fcntl.flock

    def another_made_meanwhile(descriptor: int, operation: int) -> None:
        plain(descriptor, operation)
        monkeypatch.setattr(fcntl, "flock", plain)
        shutil.rmtree(folder)
        open_version(store, manifest)

    monkeypatch.setattr(fcntl, "flock", another_made_meanwhile)
    forget_copy(store, manifest.version)
    assert (folder / VECTORS).read_bytes() == CONTENT


def test_a_version_that_could_not_be_opened_is_not_held(store: Store, manifest: IndexManifest, copies: Path) -> None:
    damage(store, manifest)
    with pytest.raises(StoreError, match="damaged"):
        open_version(store, manifest)
    forget_copy(store, manifest.version)
    assert list(copies.iterdir()) == []


def test_a_local_store_has_no_copies_and_no_locks(tmp_path: Path, copies: Path) -> None:
    store = Store(str(tmp_path / "store"))
    manifest = read_index_manifest(store, add_version(store, 1))
    before = files_below(tmp_path)
    assert open_version(store, manifest) == tmp_path / "store" / version_folder(manifest.version)
    forget_copy(store, manifest.version)
    assert files_below(tmp_path) == before
    assert not copies.exists()


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """What the manifest describes, in a folder of somebody else's."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "vectors.npy").write_bytes(CONTENT)
    (folder / "rows.arrow").write_bytes(CONTENT)
    return folder


@pytest.mark.parametrize("what", ["file", "folder", "unlisted file", "unlisted folder"])
def test_a_version_with_a_link_that_leads_out_of_it_is_not_opened(tmp_path: Path, secret: Path, what: str) -> None:
    store = Store(str(tmp_path / "store"))
    manifest = read_index_manifest(store, add_version(store, 1))
    folder = Path(store.uri, version_folder(manifest.version), "shard-00000")
    open_version(store, manifest, verify=True)
    if what == "file":
        (folder / "vectors.npy").unlink()
        (folder / "vectors.npy").symlink_to(secret / "vectors.npy")
    elif what == "folder":
        shutil.rmtree(folder)
        folder.symlink_to(secret)
    elif what == "unlisted file":
        (folder / "rows.arrow").symlink_to(secret / "rows.arrow")
    else:
        (folder / "scann").symlink_to(secret)
    with pytest.raises(StoreError, match="a link that leads out"):
        open_version(store, manifest, verify=True)


def test_a_download_writes_nothing_outside_of_the_copy(
    store: Store, manifest: IndexManifest, copies: Path, secret: Path
) -> None:
    before = files_below(secret)
    (secret / "vectors.npy").write_bytes(b"as it was")
    (copies / manifest.version).mkdir(parents=True)
    (copies / manifest.version / "shard-00000").symlink_to(secret)
    with pytest.raises(StoreError, match="a link that leads out"):
        open_version(store, manifest)
    assert files_below(secret) == before
    assert (secret / "vectors.npy").read_bytes() == b"as it was"


def test_a_store_that_lists_names_that_leave_is_not_downloaded(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.replace("indexes/x/file", CONTENT)
    for name in ("..", "../file", "/file", "a\\..\\b"):
        monkeypatch.setattr(Store, "list", lambda self, folder, name=name: [name])
        with pytest.raises(StoreError, match="stays inside its folder"):
            fetch_missing(store, "indexes/x", tmp_path / "copy" / "deep")
    assert not (tmp_path / "copy").exists()
