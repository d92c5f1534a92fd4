from __future__ import annotations

import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from store.damage import DAMAGED, ignore, is_rotten, set_aside, setting_aside, whole_snapshots, whole_versions
from store.errors import StoreError
from store.index import list_versions, version_folder
from store.location import Store
from store.snapshot import list_snapshots, snapshot_folder
from tests.store.test_power_cut import commit_snapshot
from tests.support.versions import add_version, name_of


@pytest.fixture
def store(tmp_path):
    """Three snapshots and a version of each."""
    store = Store(str(tmp_path))
    for day in (1, 2, 3):
        commit_snapshot(store, day)
        add_version(store, day)
    return store


def spoil(store: Store, path: str, data: bytes | None) -> None:
    file = Path(store.full_path(path))
    file.unlink()
    if data is not None:
        file.write_bytes(data)


def names_of(manifests) -> list[str]:
    return [getattr(manifest, "snapshot", "") for manifest in manifests]


@pytest.mark.parametrize(
    ("file", "data", "says"),
    [
        ("part-1.parquet", None, "part-1.parquet: expected [0-9]+ bytes, found none"),
        ("part-1.parquet", b"", "part-1.parquet: expected [0-9]+ bytes, found 0 bytes"),
        ("manifest.json", b'{"format_version": 1', "not a snapshot manifest"),
        ("manifest.json", b"[]", "not a snapshot manifest"),
    ],
)
def test_whole_snapshots_come_newest_first_and_the_others_are_told_once(store, file, data, says):
    spoil(store, f"{snapshot_folder(name_of(2))}/{file}", data)
    told: list[str] = []
    found = list(whole_snapshots(store, lambda folder, fault: told.append(f"{folder}: {fault}")))
    assert names_of(found) == [name_of(3), name_of(1)]
    (line,) = told
    assert line.startswith(f"{snapshot_folder(name_of(2))}: ")
    assert re.search(says, line)


def test_whole_versions_come_newest_first(store):
    spoil(store, f"{version_folder(name_of(3))}/shard-00000/vectors.npy", b"cut")
    told: list[str] = []
    found = list(whole_versions(store, lambda folder, fault: told.append(folder)))
    assert [manifest.version for manifest in found] == [name_of(2), name_of(1)]
    assert told == [version_folder(name_of(3))]


def test_what_is_of_another_format_is_not_damaged_and_stops(store):
    store.replace(f"{snapshot_folder(name_of(3))}/manifest.json", b'{"format_version": 2}')
    with pytest.raises(StoreError, match="expected 1, found 2; use the Shelfmark that wrote it"):
        list(whole_snapshots(store, ignore))
    store.replace(f"{version_folder(name_of(3))}/manifest.json", b'{"format_version": 2}')
    with pytest.raises(StoreError, match="expected 1, found 2; use the Shelfmark that wrote it"):
        list(whole_versions(store, ignore))


def test_what_is_set_aside_keeps_every_file_but_its_name(store):
    said: list[str] = []
    folder = snapshot_folder(name_of(2))
    manifest = store.read(f"{folder}/manifest.json")
    setting_aside(store, said.append)(folder, "a part is missing")
    assert said == [f"{folder} is damaged and set aside: a part is missing"]
    assert store.read(f"{folder}/{DAMAGED}") == manifest
    assert store.list(folder) == [DAMAGED, "part-0.parquet", "part-1.parquet"]
    assert list_snapshots(store) == [name_of(1), name_of(3)]
    set_aside(store, folder)
    assert store.read(f"{folder}/{DAMAGED}") == manifest, "a second time changes nothing"
    set_aside(store, version_folder(name_of(1)))
    assert list_versions(store) == [name_of(2), name_of(3)]


def test_a_page_that_changed_is_rot_and_a_sound_snapshot_is_not(store):
    told: list[tuple[str, str]] = []
    assert not is_rotten(store, name_of(1), lambda *what: told.append(what))
    assert not is_rotten(store, name_of(9), lambda *what: told.append(what)), "there is none"
    part = Path(store.full_path(f"{snapshot_folder(name_of(1))}/part-0.parquet"))
    column = pq.ParquetFile(part).metadata.row_group(0).column(0)
    data = bytearray(part.read_bytes())
    data[column.data_page_offset + column.total_compressed_size - 1] ^= 1
    part.write_bytes(data)
    assert is_rotten(store, name_of(1), lambda *what: told.append(what))
    ((folder, fault),) = told
    assert folder == snapshot_folder(name_of(1))
    assert "part-0.parquet: " in fault
    assert "\n" not in fault
