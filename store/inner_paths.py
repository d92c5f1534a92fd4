"""Paths that a file names, joined to the folder it speaks for: none of them may lead out of it.

A manifest is content: whoever wrote it chose its words. Every reader that joins a path from a manifest, a listing or
an archive to a folder does it here. Hard links and mounts cannot be told from files of one's own, and a store that
somebody rewrites while it is read is beyond this: it guards against what a store says, not against who may write to it.
"""

from __future__ import annotations

import os
import posixpath
import re
import stat
from pathlib import Path

from store.errors import DamagedError
from store.location import Store

_MOST_CHARACTERS = 1024
# C0, DEL, C1, surrogates: no file of ours has them. A backslash and a drive's colon are separators elsewhere.
_STRANGE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\\]")
_DRIVE = re.compile(r"[A-Za-z]:")


def inner_path(path: object) -> str:
    """A relative path that stays below the folder it is joined to, as it was given.

    Args:
        path: What a file says is a path, with forward slashes.

    Raises:
        DamagedError: It is no text, empty or too long, absolute, has a drive letter, a backslash, a control character,
            or a part that is empty, `.` or `..`.
    """
    named = isinstance(path, str) and 0 < len(path) <= _MOST_CHARACTERS
    if not named or _STRANGE.search(str(path)) or _DRIVE.match(str(path)):
        raise _refusal(path)
    if not {"", ".", ".."}.isdisjoint(str(path).split("/")):
        raise _refusal(path)
    return str(path)


def _refusal(path: object) -> DamagedError:
    return DamagedError(
        f"expected a path that stays inside its folder, such as shard-00000/rows.arrow, found {path!r:.80}"
    )


def locate(store: Store, folder: str, path: object) -> str:
    """`folder`/`path`, to be read from a store.

    Args:
        store: Holds the folder.
        folder: Relative to the store, of a name that was checked.
        path: As a file names it, relative to the folder.

    Raises:
        DamagedError: It leads out of the folder, by its words or, on a local disk, by links; or it is no regular file.
    """
    try:
        inner = inner_path(path)
        local = store.local_path(folder)
        if local is not None:
            refuse_links(local, inner)
    except DamagedError as error:
        raise DamagedError(f"{store.full_path(folder)}: {error}") from error
    return posixpath.join(folder, inner)


def refuse_links(folder: Path, path: str) -> None:
    """Looks at what lies on disk at an inner path, the folders on the way too; what is not there passes.

    The folder itself may be a link: where a store lies is for its owner to say.

    Raises:
        DamagedError: A link leads out of the folder, or there is a pipe, socket or device.
    """
    root, found = os.path.realpath(folder), os.path.realpath(folder / path)
    if os.path.commonpath([root, found]) != root:
        raise DamagedError(f"expected a file inside its folder, found {path!r:.80}, a link that leads out of it")
    try:
        mode = os.stat(found).st_mode
    except OSError:
        return  # its reader says what is missing
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise DamagedError(f"expected a regular file, found {path!r:.80}, a pipe, socket or device")


def refuse_links_below(folder: Path) -> None:
    """`refuse_links` for everything in a folder, listed by a manifest or not: what opens it may name its files itself.

    Raises:
        DamagedError: As `refuse_links`.
    """
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            refuse_links(folder, os.path.relpath(os.path.join(parent, name), folder))
