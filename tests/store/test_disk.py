"""What each function leaves on the disk, and that nothing half done stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from store import disk


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths in the order in which they are flushed."""
    paths: list[str] = []
    sync = os.fsync

    def note(descriptor: int) -> None:
        paths.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    return paths


def test_folders_are_made_from_the_top_and_the_name_of_each_is_flushed(tmp_path: Path, synced: list[str]) -> None:
    disk.make_folder(str(tmp_path / "a" / "b" / "c"))
    assert (tmp_path / "a" / "b" / "c").is_dir()
    assert synced == [str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "b")]
    disk.make_folder(str(tmp_path / "a" / "b"))
    assert len(synced) == 3


def test_a_file_is_made_once(tmp_path: Path) -> None:
    disk.make_file(str(tmp_path / "file"))
    (tmp_path / "file").write_bytes(b"kept")
    with pytest.raises(FileExistsError):
        disk.make_file(str(tmp_path / "file"))
    assert (tmp_path / "file").read_bytes() == b"kept"


@pytest.mark.parametrize("by_copy", [False, True])
def test_a_file_is_flushed_before_it_takes_its_name_and_the_name_after(
    tmp_path: Path, synced: list[str], by_copy: bool
) -> None:
    target, source = tmp_path / "there" / "file", tmp_path / "source"
    target.parent.mkdir()
    target.write_bytes(b"old")
    source.write_bytes(b"new")
    if by_copy:
        disk.replace_by_copy(source, str(target))
    else:
        disk.replace_file(str(target), b"new")
    assert target.read_bytes() == b"new"
    content, name = synced
    assert content.startswith(f"{target}.")
    assert content.endswith(".tmp")
    assert name == str(target.parent)
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_what_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError("full")

    (tmp_path / "file").write_bytes(b"old")
    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(OSError, match="full"):
        disk.replace_file(str(tmp_path / "file"), b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"old")]


def test_a_deletion_is_flushed_unless_it_need_not_last(tmp_path: Path, synced: list[str]) -> None:
    for name in ("one", "two"):
        (tmp_path / name).touch()
    disk.remove_file(str(tmp_path / "one"))
    assert synced == [str(tmp_path)]
    disk.remove_file(str(tmp_path / "two"), lasting=False)
    assert synced == [str(tmp_path)]
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        disk.remove_file(str(tmp_path / "one"))


def test_a_folder_goes_with_all_that_is_in_it(tmp_path: Path, synced: list[str]) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").touch()
    disk.remove_tree(str(tmp_path / "a"))
    assert not (tmp_path / "a").exists()
    assert synced == [str(tmp_path)]
