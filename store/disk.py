"""The local disk, written so that what is said to be done is still there after a power cut.

A file's content lasts once the file is synced, its name once the folder is: each function says what it leaves for sure.
Every write that a store on a local disk makes goes through here, but for the bytes of large files, which others write
and `sync_file` makes last.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from pathlib import Path

_COPY_BYTES = 1 << 22


def make_folder(path: str) -> None:
    """Makes a folder and those above it that are missing; the names of all that it made last."""
    missing = []
    while path and not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder)
        sync_folder(os.path.dirname(folder) or ".")


def make_file(path: str) -> None:
    """Makes an empty file whose name nobody has yet.

    Raises:
        FileExistsError: There is one; it stays as it is.
    """
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))


def sync_file(path: str) -> None:
    """Makes a file's content last, whoever wrote it; its name lasts with the folder's next sync."""
    _sync(path, os.O_RDONLY)


def sync_folder(path: str) -> None:
    """Makes the names in a folder last: those of new files, and the absence of deleted ones."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: str, mode: int) -> None:
    descriptor = os.open(path, mode | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: str, data: bytes) -> None:
    """Puts a file of this content in a place; the old file or the whole new one is there at any time, and it lasts."""
    temporary = _temporary(path)
    try:
        with open(temporary, "wb") as file:
            file.write(data)
        _move(temporary, path)
    finally:
        _forget(temporary)


def replace_by_copy(source: Path, path: str) -> None:
    """As `replace_file`, with the content of another file."""
    temporary = _temporary(path)
    try:
        with open(source, "rb") as read, open(temporary, "wb") as written:
            shutil.copyfileobj(read, written, _COPY_BYTES)
        _move(temporary, path)
    finally:
        _forget(temporary)


def _temporary(path: str) -> str:
    return f"{path}.{uuid.uuid4().hex}.tmp"


def _move(temporary: str, path: str) -> None:
    sync_file(temporary)
    os.replace(temporary, path)
    sync_folder(os.path.dirname(path))


def _forget(temporary: str) -> None:
    with contextlib.suppress(OSError):  # as a rule it has been moved
        os.unlink(temporary)


def remove_file(path: str, *, lasting: bool = True) -> None:
    """Deletes a file.

    Args:
        path: The file.
        lasting: Whether it must be gone before anything that is deleted later is.

    Raises:
        FileNotFoundError: There is none.
    """
    os.unlink(path)
    if lasting:
        sync_folder(os.path.dirname(path))


def remove_tree(path: str) -> None:
    """Deletes a folder and all that is in it, in any order.

    Raises:
        FileNotFoundError: There is none.
    """
    shutil.rmtree(path)
    sync_folder(os.path.dirname(path))
