"""What a disk may hold after a power cut: an act's file operations are recorded, and every prefix of them replayed.

The disk promises no more than POSIX does: the content of a file lasts from its last fsync, a name in a folder from that
folder's last fsync. What came later may have reached the disk or not, each part of it by itself and in any order: names
may be missing, old or new, contents empty, cut or whole. The recorder sees fsync, rename and deletions as they are
called, and finds what was created, by whatever library, when it looks at the folder before each of them.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """One operation, paths relative to the recorded folder; `inode` names a file or folder however it is renamed."""

    kind: str  # create, unlink, replace, sync_file, sync_folder
    path: str
    inode: int = 0
    source: str = ""
    content: bytes | None = None  # of a synced file


@dataclasses.dataclass(slots=True)
class Recording:
    """An act's operations, and what the folder held before it.

    Attributes:
        before: Files by path and folders (None), all of which last.
        events: In their order.
        contents: What each inode held last, synced or not.
    """

    before: dict[str, bytes | None]
    events: list[Event]
    contents: dict[int, bytes | None]


class Recorder:
    """Watches a folder while an act runs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, int] = {}
        self._ids = itertools.count(1)
        self.recording = Recording(_tree(folder), [], {})
        self._known = {path: next(self._ids) for path in self.recording.before}
        self.recording.contents = {self._known[path]: data for path, data in self.recording.before.items()}

    def record(self, act: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> Recording:
        """Runs the act."""
        with monkeypatch.context() as patch:
            for name, react in (("fsync", self._sync), ("replace", self._replace)):
                self._hook(patch, name, react)
            for name in ("unlink", "rmdir", "remove"):
                self._hook(patch, name, self._unlink)
            act()
        self._look()
        return self.recording

    def _hook(self, patch: pytest.MonkeyPatch, name: str, react: Callable[..., None]) -> None:
        plain = getattr(os, name)

        def hooked(*arguments: Any, **options: Any) -> Any:
            self._look()
            react(*arguments, **options)
            return plain(*arguments, **options)

        patch.setattr(os, name, hooked)

    def _look(self) -> None:
        """Finds what was created since, parents first, and what files hold now."""
        for path, data in _tree(self._folder).items():
            if path not in self._known:
                self._known[path] = next(self._ids)
                self.recording.events.append(Event("create", path, self._known[path]))
            self.recording.contents[self._known[path]] = data

    def _inside(self, path: str, dir_fd: int | None = None) -> str | None:
        full = Path(os.readlink(f"/proc/self/fd/{dir_fd}"), path) if dir_fd is not None else Path(path)
        try:
            return full.absolute().relative_to(self._folder).as_posix()
        except ValueError:
            return None

    def _sync(self, descriptor: int) -> None:
        path = self._inside(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path is None:
            return
        if os.path.isdir(self._folder / path):
            self.recording.events.append(Event("sync_folder", path))
        else:
            content = (self._folder / path).read_bytes()
            self.recording.events.append(Event("sync_file", path, self._known[path], content=content))

    def _replace(self, source: str, target: str) -> None:
        old, new = self._inside(str(source)), self._inside(str(target))
        if old is not None and new is not None:
            assert os.path.dirname(old) == os.path.dirname(new), "a rename between folders is not modelled"
            inode = self._known.pop(old)
            self._known[new] = inode
            self.recording.events.append(Event("replace", new, inode, source=old))

    def _unlink(self, path: str, *, dir_fd: int | None = None) -> None:
        inside = self._inside(str(path), dir_fd)
        if inside is not None and inside in self._known:
            del self._known[inside]
            self.recording.events.append(Event("unlink", inside))


def _tree(folder: Path) -> dict[str, bytes | None]:
    found: dict[str, bytes | None] = {}
    for parent, folders, files in os.walk(folder):
        for name in sorted(folders):
            found[(Path(parent) / name).relative_to(folder).as_posix()] = None
        for name in sorted(files):
            path = Path(parent) / name
            found[path.relative_to(folder).as_posix()] = path.read_bytes()
    return found


def crashes(recording: Recording, seed: int = 0) -> Iterator[tuple[int, dict[str, bytes | None]]]:
    """What the disk may hold after each prefix of the events: how many events there were, and the tree.

    Of what was not synced: all of it, none, all but one part, one part alone, and a few random mixtures.
    """
    for done in range(len(recording.events) + 1):
        events = recording.events[:done]
        loose = [place for place, event in enumerate(events) if _is_loose(event, place, events)]
        seen = set()
        for kept in _choices(loose, random.Random(seed + done)):
            for cut in ("whole", "empty", "half"):
                tree = _replay(recording, events, kept, cut)
                key = tuple(sorted(tree.items(), key=lambda item: item[0]))
                if key not in seen:
                    seen.add(key)
                    yield done, tree


def _is_loose(event: Event, place: int, events: list[Event]) -> bool:
    """Whether an operation on names was not followed by a sync of its folder."""
    if event.kind not in ("create", "unlink", "replace"):
        return False
    folder = os.path.dirname(event.path) or "."
    return not any(later.kind == "sync_folder" and later.path == folder for later in events[place + 1 :])


def _choices(loose: list[int], draw: random.Random) -> Iterator[frozenset[int]]:
    everything = frozenset(loose)
    yield everything
    yield frozenset()
    for one in loose:
        yield everything - {one}
        yield frozenset({one})
    for _ in range(3):
        yield frozenset(place for place in loose if draw.random() < 0.5)


def _replay(recording: Recording, events: list[Event], kept: frozenset[int], cut: str) -> dict[str, bytes | None]:
    names = {path: number for number, path in enumerate(recording.before, start=1)}
    lasting = {number: recording.before[path] for path, number in names.items()}
    synced = {event.inode: event.content for event in events if event.kind == "sync_file"}
    for place, event in enumerate(events):
        if event.kind == "sync_file" or event.kind == "sync_folder":
            continue
        if _is_loose(event, place, events) and place not in kept:
            continue
        if event.kind == "create":
            names[event.path] = event.inode
        elif event.kind == "unlink":
            names.pop(event.path, None)
        else:
            names.pop(event.source, None)
            names[event.path] = event.inode
    tree = {}
    for path, inode in names.items():
        if all(parent in names for parent in _parents(path)):
            tree[path] = _content(inode, recording, lasting, synced, cut)
    return tree


def _parents(path: str) -> list[str]:
    return [parent.as_posix() for parent in Path(path).parents if parent.as_posix() != "."]


def _content(
    inode: int,
    recording: Recording,
    lasting: dict[int, bytes | None],
    synced: dict[int, bytes | None],
    cut: str,
) -> bytes | None:
    last = recording.contents[inode]
    if last is None or inode in synced:
        return last if last is None else synced[inode]
    if inode in lasting:
        return lasting[inode]
    return {"whole": last, "empty": b"", "half": last[: len(last) // 2]}[cut]


def lay(folder: Path, tree: dict[str, bytes | None]) -> None:
    """Makes a folder hold exactly this."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path, data in sorted(tree.items()):
        if data is None:
            (folder / path).mkdir(parents=True, exist_ok=True)
        else:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
