"""Opening a local file where a policy lets it be opened, whatever is moved or linked meanwhile."""

from __future__ import annotations

import os

from fetch.policy import FetchPolicy

# O_NONBLOCK: opening a pipe without a writer would wait for one.
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
_FOLDER = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY


def open_allowed(path: str, policy: FetchPolicy) -> int:
    """A descriptor to read a file from, of any kind; the caller closes it.

    Below an allowed folder the way is gone one name at a time, from each opened folder to the next, and no link is
    followed: there is none in a real path, so that one that is met was put there since it was checked.

    Raises:
        Rejected: not_allowed.
        OSError, ValueError: It cannot be opened.
    """
    folder, below = policy.real_path(path)
    if not folder:
        return os.open(path, _READ)
    *folders, name = below.split("/")
    at = os.open(folder, _FOLDER)
    try:
        for part in folders:
            inner = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=at)
            os.close(at)
            at = inner
        return os.open(name, _READ | os.O_NOFOLLOW, dir_fd=at)
    except OSError:
        policy.real_path(path)  # where a link that leads out was met, this says so
        raise
    finally:
        os.close(at)
