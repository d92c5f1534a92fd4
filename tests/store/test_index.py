from __future__ import annotations

import dataclasses
import json
import re
import tempfile
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from index_builder.version_files import open_version
from store.errors import GateRefused, StoreError, UserError
from store.index import (
    IndexFile,
    IndexManifest,
    commit_version,
    current_version,
    list_versions,
    publish,
    read_current,
    read_index_manifest,
    version_folder,
)
from store.location import Store
from tests.support.killed import killed_at_every_step, run_alone
from tests.support.versions import add_version, name_of, verify_files, version_manifest, write_files


@pytest.fixture(params=["local", "objects"])
def store(request, tmp_path):
    """A local folder, and a file system in memory that is handled as an object store is."""
    return Store(str(tmp_path) if request.param == "local" else f"mock:///{uuid.uuid4().hex}")


def test_a_version_exists_once_its_manifest_does_and_is_published_apart(store):
    assert (list_versions(store), current_version(store)) == ([], None)
    manifest = version_manifest(2, 1, measured=0.96)
    write_files(store, manifest)
    assert list_versions(store) == []
    with pytest.raises(UserError, match=f"no version {manifest.version}"):
        publish(store, manifest.version)
    commit_version(store, manifest)
    assert (list_versions(store), current_version(store)) == ([manifest.version], None)
    assert read_index_manifest(store, manifest.version) == manifest
    publish(store, manifest.version)
    assert current_version(store) == manifest.version
    assert store.read("indexes/CURRENT") == f"{manifest.version}\n".encode()
    verify_files(store, manifest)


def test_versions_are_listed_oldest_first_and_strangers_are_not(store):
    for day in (3, 1, 2):
        add_version(store, day)
    store.replace("indexes/notes/manifest.json", b"{}")
    assert list_versions(store) == [name_of(1), name_of(2), name_of(3)]


def test_a_version_under_its_target_is_kept_and_not_published(store):
    publish(store, add_version(store, 1, measured=0.95))
    under = add_version(store, 2, measured=0.9499)
    with pytest.raises(GateRefused, match=r"at least 0\.95, found 0\.9499"):
        publish(store, under)
    assert current_version(store) == name_of(1)
    assert under in list_versions(store)


@pytest.mark.parametrize("wrong", [IndexFile("missing", 1, ""), IndexFile("shard-00000/vectors.npy", 7, "")])
def test_a_missing_or_cut_file_is_neither_committed_nor_published(store, wrong):
    manifest = version_manifest(1, 1, 1.0)
    write_files(store, manifest)
    damaged = dataclasses.replace(manifest, files=(*manifest.files, wrong))
    with pytest.raises(StoreError, match=rf"{wrong.path}: expected {wrong.bytes} bytes, found"):
        commit_version(store, damaged)
    assert list_versions(store) == []
    store.replace(f"{version_folder(manifest.version)}/manifest.json", damaged.to_json())
    with pytest.raises(StoreError, match=wrong.path):
        publish(store, manifest.version)
    assert current_version(store) is None


def test_a_flipped_byte_is_found(store, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    version = add_version(store, 1)
    manifest, path = read_index_manifest(store, version), f"{version_folder(version)}/shard-00000/vectors.npy"
    content = bytearray(store.read(path))
    content[100] ^= 1
    store.replace(path, bytes(content))
    with pytest.raises(StoreError, match=r"vectors\.npy: expected SHA-256 .* damaged") as caught:
        open_version(store, manifest, verify=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format_version": 7}, "index format: expected 1, found 7; use the Shelfmark that wrote it"),
        ({"recall": {"measured": 0.9}}, "not an index manifest: KeyError.*target"),
        ({"recall": {"measured": "high", "target": 0.9}}, "not an index manifest: TypeError"),
        ({"surprise": 1}, "not an index manifest: TypeError.*surprise"),
        ({"version": name_of(9)}, f"expected version {name_of(1)}, found {name_of(9)}"),
    ],
)
def test_a_manifest_that_is_none_is_refused(store, change, says):
    version = add_version(store, 1)
    path = f"{version_folder(version)}/manifest.json"
    store.replace(path, json.dumps({**json.loads(store.read(path)), **change}).encode())
    with pytest.raises(StoreError, match=f"{re.escape(path)}: .*{says}"):
        read_index_manifest(store, version)


def test_json_begins_with_the_format_version():
    data = version_manifest(1, 1, 0.99).to_json()
    assert next(iter(json.loads(data))) == "format_version"
    assert IndexManifest.from_json(data) == version_manifest(1, 1, 0.99)


@pytest.mark.parametrize(
    ("content", "says"), [(b"", "found ''"), (b"../weights\n", "found '../weights'"), (name_of(5).encode(), "manifest")]
)
def test_current_that_names_no_version_says_how_to_go_on(store, content, says):
    store.replace("indexes/CURRENT", content)
    with pytest.raises(StoreError, match=rf"{says}.*rollback --to") as caught:
        current_version(store)
    assert "\n" not in str(caught.value)
    publish(store, add_version(store, 1))
    assert current_version(store) == name_of(1)


def test_a_version_pruned_while_it_is_published_is_not_published(store, monkeypatch):
    publish(store, add_version(store, 1))
    doomed, plain = add_version(store, 2), Store.replace

    def prune_first(self, path, data):
        if data == f"{doomed}\n".encode():
            self.remove(f"{version_folder(doomed)}/manifest.json")
        plain(self, path, data)

    monkeypatch.setattr(Store, "replace", prune_first)
    with pytest.raises(StoreError, match="was pruned while"):
        publish(store, doomed)
    assert current_version(store) == name_of(1)
    store.remove("indexes/CURRENT")
    doomed = add_version(store, 3)
    with pytest.raises(StoreError, match="was pruned while"):
        publish(store, doomed)
    assert current_version(store) is None


def test_of_two_publishers_one_wins_and_readers_never_see_neither(tmp_path):
    store = Store(str(tmp_path))
    versions = [add_version(store, 1), add_version(store, 2)]
    publish(store, versions[0])
    start, seen = threading.Barrier(3), set()

    def publish_often(version: str) -> None:
        start.wait()
        for _ in range(200):
            publish(store, version)

    with ThreadPoolExecutor(2) as pool:
        publishers = [pool.submit(publish_often, version) for version in versions]
        start.wait()
        while not all(publisher.done() for publisher in publishers):
            seen.add(current_version(store))
    for publisher in publishers:
        publisher.result()
    assert seen <= set(versions)
    assert current_version(store) in versions
    assert sorted(store.list("indexes")) == [*versions, "CURRENT"]


def kill_builds(folder: Path) -> int:
    """Builds, commits and publishes, killed at every step; CURRENT must name a whole version after each."""
    store = Store(str(folder))
    publish(store, add_version(store, 1))
    (folder / "built").write_bytes(b"vectors")

    def build() -> None:
        manifest = version_manifest(2, 2, 1.0, b"vectors")
        store.upload(folder / "built", f"{version_folder(manifest.version)}/{manifest.files[0].path}")
        commit_version(store, manifest)
        publish(store, manifest.version)

    def check(step: int) -> None:
        current = current_version(store)
        assert current in (name_of(1), name_of(2)), step
        for version in list_versions(store):
            verify_files(store, read_index_manifest(store, version))
        store.remove_folder(version_folder(name_of(2)))  # the next one starts where this one did
        publish(store, name_of(1))

    steps = killed_at_every_step(folder, build, check)
    assert read_current(store) == name_of(2)
    return steps


def test_killed_at_any_step_current_names_a_whole_version_and_the_next_build_succeeds(tmp_path):
    assert run_alone("tests.store.test_index", "kill_builds", tmp_path) >= 7
