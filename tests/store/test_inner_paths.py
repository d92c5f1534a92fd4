"""What a file calls a path: it stays in its folder, by its words and on the disk, or no reader opens it."""

from __future__ import annotations

import json
import ntpath
import os
import posixpath
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.building import BUILDING_FILE, read_sign
from store.errors import StoreError, UserError
from store.index import IndexManifest, read_index_manifest, version_folder
from store.inner_paths import inner_path, locate, refuse_links_below
from store.location import Store
from store.parts import open_part
from store.runs import RunRecord
from store.snapshot import SnapshotManifest, read_manifest, snapshot_folder
from tests.store.test_runs import PUBLISHED
from tests.support.versions import add_snapshot, add_version, name_of, version_manifest

LEAVING = [
    "", ".", "..", "../x", "../../../etc/passwd", "a/../../x", "a/..", "/etc/passwd", "//host/x", "a//b", "a/", "./a",
    "a/./b", "C:x", "c:/x", "C:\\x", "..\\..\\x", "a\\b", "a\0b", "a\nb", "a\x1b[2Jb", "a\x7f", "a\x9b", "\ud800",
    "x" * 1025, None, 7, ["a"], {"a": 1},
]  # fmt: skip
PARTS = ["", ".", "..", "...", "a", "part-00000.parquet", "C:", "\\", "..\\", "\0", "\n", "~", "%2e%2e", " ", ".. "]


@given(st.lists(st.sampled_from(PARTS) | st.text(max_size=4), min_size=1, max_size=6).map("/".join))
def test_what_is_taken_stays_below_its_folder_here_and_on_windows(path):
    try:
        assert inner_path(path) == path
    except StoreError:
        return
    assert posixpath.normpath(f"/folder/{path}") == f"/folder/{path}"
    assert not os.path.isabs(path)
    assert ntpath.normpath(ntpath.join("D:\\folder", path)).startswith("D:\\folder\\")
    assert path.isprintable() or not any(character < " " or "\x7f" <= character <= "\x9f" for character in path)


@given(st.lists(st.from_regex(r"[a-z0-9_-][A-Za-z0-9._-]{0,20}", fullmatch=True), min_size=1, max_size=5))
def test_plain_names_are_taken_as_they_are(names):
    assert inner_path("/".join(names)) == "/".join(names)


@pytest.mark.parametrize("path", LEAVING, ids=repr)
def test_paths_that_leave_are_refused_in_one_line(path):
    with pytest.raises(StoreError, match="stays inside its folder") as caught:
        inner_path(path)
    assert str(caught.value).isprintable()


def snapshot_json(**changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "format_version": 1,
        "snapshot": name_of(1),
        "created_at": "",
        "catalog": "",
        "previous_snapshot": None,
        "encoder": {},
        "counts": {"catalog_rows": 0, "embedded": 0, "reused": 0, "rejected": 0},
        "rejected_by_reason": {},
        "files": [],
        "timing": {},
        "versions": {},
    }
    return json.dumps({**fields, **changes}).encode()


def index_json(**changes: Any) -> bytes:
    return json.dumps({**json.loads(version_manifest(1, 1, 0.97).to_json()), **changes}).encode()


@pytest.mark.parametrize("path", LEAVING, ids=repr)
def test_no_manifest_lists_a_path_that_leaves(path):
    SnapshotManifest.from_json(snapshot_json())
    IndexManifest.from_json(index_json())
    with pytest.raises(StoreError, match="stays inside its folder"):
        SnapshotManifest.from_json(snapshot_json(files=[{"path": path, "rows": 1, "bytes": 1}]))
    with pytest.raises(StoreError, match="stays inside its folder"):
        IndexManifest.from_json(index_json(files=[{"path": path, "bytes": 1, "sha256": ""}]))
    with pytest.raises(StoreError, match="stays inside its folder"):
        IndexManifest.from_json(index_json(shards=[{"name": path, "rows": 1}]))


def test_a_manifest_nested_without_end_is_no_manifest():
    for kind in (SnapshotManifest, IndexManifest, RunRecord):
        with pytest.raises(StoreError, match=r"^not a"):
            kind.from_json(b"[" * 100_000)


NO_NAMES = ["..", "../..", "", "x", f"{name_of(1)}/..", f"{name_of(1)}\n", name_of(1).replace("1", "\u0661"), None, 3]


@pytest.mark.parametrize("name", NO_NAMES, ids=range(len(NO_NAMES)))
def test_no_path_is_built_from_what_is_no_name(name):
    for folder_of in (version_folder, snapshot_folder):
        with pytest.raises(UserError, match="expected a name such as"):
            folder_of(name)
    with pytest.raises(StoreError):
        IndexManifest.from_json(index_json(snapshot=name))
    if name:  # without one there is no previous snapshot
        with pytest.raises(StoreError):
            SnapshotManifest.from_json(snapshot_json(previous_snapshot=name))
        for field in ("snapshot", "version", "published_before"):
            fields = {**json.loads(PUBLISHED.to_json()), field: name}
            with pytest.raises(StoreError, match="not a run's record"):
                RunRecord.from_json(json.dumps(fields).encode())


def test_a_manifest_that_speaks_for_another_folder_is_refused(tmp_path):
    store = Store(str(tmp_path))
    add_snapshot(store, 1)
    store.replace(f"{snapshot_folder(name_of(2))}/manifest.json", snapshot_json(snapshot=name_of(1)))
    with pytest.raises(StoreError, match=f"expected snapshot {name_of(2)}, found {name_of(1)}"):
        read_manifest(store, name_of(2))
    for name in ("../../x", "x"):
        with pytest.raises(UserError):
            read_manifest(store, name)
        with pytest.raises(UserError):
            read_index_manifest(store, name)


@pytest.mark.parametrize(
    "changes",
    [{"snapshot": "../../x"}, {"pid": "1"}, {"host": 4}, {"heartbeat_at": "2026-11-01T00:00:00"}, {"heartbeat_at": 5}],
    ids=str,
)
def test_a_builders_sign_that_says_such_things_is_none(tmp_path, changes):
    store = Store(str(tmp_path))
    said = {"version": name_of(1), "snapshot": name_of(1), "host": "h", "pid": 10**30}
    said["heartbeat_at"] = "2026-11-01T00:00:00+00:00"
    path = f"{version_folder(name_of(1))}/{BUILDING_FILE}"
    store.replace(path, json.dumps(said).encode())
    assert read_sign(store, name_of(1)) is not None
    store.replace(path, json.dumps({**said, **changes}).encode())
    assert read_sign(store, name_of(1)) is None


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    folder = tmp_path / "elsewhere" / "deep"
    folder.mkdir(parents=True)
    (folder / "file").write_bytes(b"of somebody else")
    return folder


def link_file(folder: Path, elsewhere: Path) -> str:
    (folder / "file").symlink_to(elsewhere / "file")
    return "file"


def link_folder(folder: Path, elsewhere: Path) -> str:
    (folder / "way").symlink_to(elsewhere)
    return "way/file"


def link_relatively(folder: Path, elsewhere: Path) -> str:
    (folder / "way").symlink_to(os.path.relpath(elsewhere.parent, folder))
    return "way/deep/file"


def link_to_a_link(folder: Path, elsewhere: Path) -> str:
    (folder / "one").symlink_to("two")
    (folder / "two").symlink_to(elsewhere / "file")
    return "one"


def link_to_a_neighbour_of_like_name(folder: Path, elsewhere: Path) -> str:
    neighbour = folder.with_name(folder.name + "-other")
    neighbour.mkdir()
    (neighbour / "file").write_bytes(b"")
    (folder / "file").symlink_to(neighbour / "file")
    return "file"


def put_a_pipe(folder: Path, elsewhere: Path) -> str:
    os.mkfifo(folder / "file")
    return "file"


TRAPS = [link_file, link_folder, link_relatively, link_to_a_link, link_to_a_neighbour_of_like_name, put_a_pipe]


@pytest.mark.parametrize("trap", TRAPS)
def test_links_that_lead_out_and_pipes_are_refused(tmp_path, elsewhere, trap):
    store = Store(str(tmp_path / "store"))
    folder = snapshot_folder(name_of(1))
    Path(store.uri, folder).mkdir(parents=True)
    path = trap(Path(store.uri, folder), elsewhere)
    for read in (locate, open_part):
        with pytest.raises(StoreError, match=r"a link that leads out|a pipe, socket or device"):
            read(store, folder, path)
    with pytest.raises(StoreError, match=r"a link that leads out|a pipe, socket or device"):
        refuse_links_below(Path(store.uri, folder))


def test_links_within_the_folder_and_a_linked_store_are_the_owners_business(tmp_path):
    (tmp_path / "disk" / "indexes" / "v").mkdir(parents=True)
    (tmp_path / "store").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "indexes" / "v" / "whole").write_bytes(b"1")
    (tmp_path / "disk" / "indexes" / "v" / "link").symlink_to("whole")
    store = Store(str(tmp_path / "store"))
    assert store.read(locate(store, "indexes/v", "link")) == b"1"
    assert locate(store, "indexes/v", "not/there") == "indexes/v/not/there"
    refuse_links_below(tmp_path / "store" / "indexes" / "v")


def test_an_object_store_has_no_links_to_look_for():
    store = Store("mock:///bucket")
    assert locate(store, "indexes/v", "a/b") == "indexes/v/a/b"
    with pytest.raises(StoreError, match="mock:///bucket/indexes/v: expected a path that stays inside"):
        locate(store, "indexes/v", "../b")


def test_a_version_whose_manifest_was_written_to_leave_is_not_opened(tmp_path):
    store = Store(str(tmp_path / "store"))
    version = add_version(store, 1)
    store.replace(
        f"{version_folder(version)}/manifest.json",
        index_json(files=[{"path": "../../../secret", "bytes": 1, "sha256": ""}]),
    )
    with pytest.raises(StoreError, match="stays inside its folder"):
        read_index_manifest(store, version)


def test_a_manifest_that_is_a_link_out_of_its_folder_is_not_read(tmp_path):
    store = Store(str(tmp_path / "store"))
    for path, read in (
        (version_folder(add_version(store, 1)), read_index_manifest),
        (snapshot_folder(add_snapshot(store, 1)), read_manifest),
    ):
        manifest = Path(store.uri, path, "manifest.json")
        read(store, name_of(1))
        moved = manifest.rename(tmp_path / "elsewhere.json")
        manifest.symlink_to(moved)
        with pytest.raises(StoreError, match="a link that leads out"):
            read(store, name_of(1))
