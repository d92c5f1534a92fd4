"""What is renamed to its name has been synced: after a power loss a name never leads to a file that is cut short."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from store.location import Store

CONTENT = os.urandom(5_000_000)  # more than one piece of a copy


def write_by_replace(store: Store, scratch: Path) -> None:
    store.replace("a/file", CONTENT)


def write_by_upload(store: Store, scratch: Path) -> None:
    (scratch / "source").write_bytes(CONTENT)
    store.upload(scratch / "source", "a/file")


@pytest.fixture
def renamed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """For every rename the target's name, the bytes of the file, and how many of them were on the disk by then."""
    synced: dict[int, int] = {}
    seen: list[tuple[str, int, int]] = []
    plain_sync, plain_replace = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        plain_sync(descriptor)
        found = os.fstat(descriptor)
        synced[found.st_ino] = found.st_size

    def replace(source: str, target: str) -> None:
        found = os.stat(source)
        seen.append((os.path.basename(target), found.st_size, synced.get(found.st_ino, 0)))
        plain_replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    for name in ("replace", "rename"):
        monkeypatch.setattr(os, name, replace)
    return seen


@pytest.mark.parametrize("write", [write_by_replace, write_by_upload])
def test_every_byte_is_on_the_disk_before_a_name_leads_to_it(
    tmp_path: Path, renamed: list[tuple[str, int, int]], write: Callable[[Store, Path], None]
) -> None:
    store = Store(str(tmp_path / "store"))
    write(store, tmp_path)
    assert renamed == [("file", len(CONTENT), len(CONTENT))]
    write(store, tmp_path)
    assert renamed == [("file", len(CONTENT), len(CONTENT))] * 2, "also where there was a file before"
    assert store.read("a/file") == CONTENT
