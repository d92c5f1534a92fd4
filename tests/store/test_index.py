from __future__ import annotations

import dataclasses
import json
import re
import tempfile

import pytest

from index_builder.search.version_files import open_version
from store.errors import GateRefused, StoreError, UserError
from store.index import IndexFile, IndexManifest, commit_version, list_versions, read_index_manifest, version_folder
from store.location import Store
from store.publication import current_version, read_current
from tests.support.memory_store import memory_store
from tests.support.versions import add_version, name_of, publish_now, verify_files, version_manifest, write_files


@pytest.fixture(params=["local", "objects"])
def store(request, tmp_path, monkeypatch):
    """A local folder, and a file system in memory that is handled as an object store is."""
    return Store(str(tmp_path)) if request.param == "local" else memory_store(monkeypatch)


def test_a_version_exists_once_its_manifest_does_and_is_published_apart(store):
    assert (list_versions(store), current_version(store)) == ([], None)
    manifest = version_manifest(2, 1, measured=0.96)
    write_files(store, manifest)
    assert list_versions(store) == []
    with pytest.raises(UserError, match=f"no version {manifest.version}"):
        publish_now(store, manifest.version)
    commit_version(store, manifest)
    assert (list_versions(store), read_current(store)) == ([manifest.version], None)
    assert read_index_manifest(store, manifest.version) == manifest
    publish_now(store, manifest.version)
    assert current_version(store) == manifest.version
    assert store.read("indexes/CURRENT").splitlines()[0] == manifest.version.encode()
    verify_files(store, manifest)


def test_versions_are_listed_oldest_first_and_strangers_are_not(store):
    for day in (3, 1, 2):
        add_version(store, day)
    store.replace("indexes/notes/manifest.json", b"{}")
    assert list_versions(store) == [name_of(1), name_of(2), name_of(3)]


def test_a_version_under_its_target_is_kept_and_not_published(store):
    publish_now(store, add_version(store, 1, measured=0.95))
    under = add_version(store, 2, measured=0.9499)
    with pytest.raises(GateRefused, match=r"at least 0\.95, found 0\.9499"):
        publish_now(store, under)
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
        publish_now(store, manifest.version)
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
        ({"recall": {"k": 10, "measured": 0.9}}, "not an index manifest: KeyError.*target"),
        ({"recall": {"k": 10, "measured": "high", "target": 0.9}}, "not an index manifest: TypeError"),
        ({"version": name_of(9)}, f"expected version {name_of(1)}, found {name_of(9)}"),
    ],
)
def test_a_manifest_that_is_none_is_refused(store, change, says):
    version = add_version(store, 1)
    path = f"{version_folder(version)}/manifest.json"
    store.replace(path, json.dumps({**json.loads(store.read(path)), **change}).encode())
    with pytest.raises(StoreError, match=f"{re.escape(path)}: .*{says}"):
        read_index_manifest(store, version)


def test_a_field_that_a_later_release_added_is_left_out(store):
    version = add_version(store, 1)
    path = f"{version_folder(version)}/manifest.json"
    store.replace(path, json.dumps({**json.loads(store.read(path)), "surprise": 1}).encode())
    assert read_index_manifest(store, version) == version_manifest(1, 1, 0.97)


def test_json_begins_with_the_format_version():
    data = version_manifest(1, 1, 0.99).to_json()
    assert next(iter(json.loads(data))) == "format_version"
    assert IndexManifest.from_json(data) == version_manifest(1, 1, 0.99)
