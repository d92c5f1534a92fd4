"""Every operation on files below a folder, in the order it is about to happen, told to a function that may stop it."""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Callable
from typing import Any

import pyarrow.fs

from store.location import Store

ALL_EVENTS = frozenset(
    {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate", "fcntl.flock"}
)
"""Python's audit events that are operations on files; `os.remove` is unlink too, `os.rename` replace too."""

_FOLDER_ARGUMENT = {"os.rename": 2, "os.remove": 1, "os.mkdir": 2, "os.rmdir": 1}

React = Callable[[str], object]


def before_every_step(folder: str, react: React) -> None:
    """Calls `react("operation path")` before every operation below `folder`, for as long as this process lives.

    A path is told without the folder and without what differs from run to run. What `react` raises, the operation does.
    """
    _react_to_events(folder, react, ALL_EVENTS)
    for name in ("fsync", "fdatasync"):
        _react_before_sync(folder, react, name)
    _react_to_arrow(folder, react)


def before_opens_and_renames(folder: str, react: React) -> None:
    """As `before_every_step`, of opening, creating, renaming and deleting only."""
    _react_to_events(folder, react, frozenset({"open", "os.rename"}))
    for name in ("remove", "remove_folder", "create"):  # in which Arrow works, whose calls raise no audit events
        _react_before(name, react)


def _react_to_events(folder: str, react: React, events: frozenset[str]) -> None:
    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in events and (path := _below(folder, _resolve(event, arguments))) is not None:
            react(f"{event} {path}")

    sys.addaudithook(hook)


def _resolve(event: str, arguments: tuple[Any, ...]) -> object:
    """What an operation is about; where it is named relative to an open folder, with that folder's path."""
    where = arguments[0]
    folder = arguments[_FOLDER_ARGUMENT[event]] if event in _FOLDER_ARGUMENT else -1
    if isinstance(where, str) and isinstance(folder, int) and folder >= 0:
        return os.path.join(os.readlink(f"/proc/self/fd/{folder}"), where)
    return where


def _below(folder: str, where: object) -> str | None:
    """A path (or an open file's), relative to the folder and told without names of runs; None for any other."""
    if isinstance(where, int):
        try:
            where = os.readlink(f"/proc/self/fd/{where}")
        except OSError:
            return None
    path = os.fsdecode(where) if isinstance(where, str | bytes | os.PathLike) else ""
    return _kind(path.removeprefix(folder)) if path.startswith(folder) else None


def _kind(path: str) -> str:
    path = re.sub(r"[0-9a-f]{12,}", "*", re.sub(r"\d{8}T\d{6}Z-[0-9a-f]{6}", "*", path))
    return re.sub(r"\d{5}", "*", path)


def _react_before(name: str, react: React) -> None:
    plain = getattr(Store, name)

    @functools.wraps(plain)
    def watched(self: Store, path: str, *arguments: Any, **named: Any) -> Any:
        react(f"{name} /{_kind(path)}")
        return plain(self, path, *arguments, **named)

    setattr(Store, name, watched)


def _react_before_sync(folder: str, react: React, name: str) -> None:
    plain = getattr(os, name)

    def watched(where: Any) -> None:
        if (path := _below(folder, where if isinstance(where, int) else where.fileno())) is not None:
            react(f"os.{name} {path}")
        plain(where)

    setattr(os, name, watched)


def _react_to_arrow(folder: str, react: React) -> None:
    """Puts in the place of Arrow's local file system one that reacts, and is one as well."""

    def watched(name: str) -> Callable[..., Any]:
        def call(self: Any, where: Any, *arguments: Any, **named: Any) -> Any:
            path = where.base_dir if isinstance(where, pyarrow.fs.FileSelector) else where
            if (told := _below(folder, path)) is not None:
                react(f"{name} {told}")
            return getattr(_LocalFileSystem, name)(self, where, *arguments, **named)

        return call

    calls = ("create_dir", "delete_dir", "delete_file", "get_file_info", "open_input_file", "open_input_stream",
             "open_output_stream")  # fmt: skip
    vars(pyarrow.fs)["LocalFileSystem"] = type("Watched", (_LocalFileSystem,), {name: watched(name) for name in calls})


_LocalFileSystem = pyarrow.fs.LocalFileSystem
