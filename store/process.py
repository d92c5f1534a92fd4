"""Who runs here, and whether somebody who wrote down its host and pid still does."""

from __future__ import annotations

import datetime
import functools
import os
import socket
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def utc_now() -> datetime.datetime:
    """The present, with its zone."""
    return datetime.datetime.now(datetime.timezone.utc)


def now_text() -> str:
    """The present to the second: ISO 8601, UTC."""
    return utc_now().isoformat(timespec="seconds")


@functools.lru_cache(maxsize=1)
def this_host() -> str:
    """The machine this process runs on, as long as it is up, and the namespace that its pids mean something in.

    Two machines may have one name, and every machine's first namespace has one number: the boot tells them apart.
    """
    try:
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')} {_BOOT_ID.read_text().strip()[:8]}"
    except OSError:
        return socket.gethostname()


def is_gone(host: str, pid: int) -> bool:
    """Whether process `pid` of a host, as `this_host` named it, has ended for sure; False where nobody can tell."""
    return host == this_host() and not is_running(pid)


def is_running(pid: int) -> bool:
    """Whether a process of this host, whoever owns it, has not ended."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):  # OverflowError: a number that no process has
        return False
    except PermissionError:
        return True
    return True
