"""What this machine or process has run out of: told from what is wrong with a picture, a file or a server.

A picture that could not be opened because the process had no file descriptor left is as good as it ever was. Whoever
turns an exception into a reject asks here first.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import mmap
import os
import resource
import socket
import tempfile
import threading
from collections.abc import Iterator

from store.errors import StoreError

_PROBE_DESCRIPTORS = 4
_PROBE_BYTES = 64 << 20
_PROBE_DISK_BYTES = 1 << 20
_DEEPEST = 20


class Lack(str, enum.Enum):
    """What there can be too little of."""

    DESCRIPTORS = "file descriptors"
    MEMORY = "memory"
    DISK = "disk"
    THREADS = "threads"


_OF_ERRNO = {
    errno.EMFILE: Lack.DESCRIPTORS,
    errno.ENFILE: Lack.DESCRIPTORS,
    errno.ENOMEM: Lack.MEMORY,
    errno.ENOBUFS: Lack.MEMORY,
    errno.ENOSPC: Lack.DISK,
    errno.EDQUOT: Lack.DISK,
}


class ShortageError(StoreError):
    """This process ran short of something; no fault of what it was working on. Ends a run where it lasts.

    Attributes:
        lack: Of what.
    """

    def __init__(self, words: str, lack: Lack) -> None:
        super().__init__(words, lack)  # both, as it is pickled, and made anew by Beam with more words
        self.lack = lack

    def __str__(self) -> str:
        """One line: what is missing and what to do."""
        return str(self.args[0])

    @classmethod
    def of(cls, lack: Lack) -> ShortageError:
        """With words that say what to do."""
        return cls(_advice(lack), lack)


def _advice(lack: Lack) -> str:
    if lack is Lack.DESCRIPTORS:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return (
            f"this process may open no more files and connections: raise ulimit -n, which is {limit}, or lower "
            "--parallel_fetches"
        )
    if lack is Lack.MEMORY:
        return "no memory left: give the process more, or lower --parallel_fetches, --batch_size or --max_pixels"
    if lack is Lack.DISK:
        return f"no space left for temporary files in {tempfile.gettempdir()}: free some, or set TMPDIR"
    return "no more threads may be started: raise ulimit -u or the container's pids limit"


def shortage_of(error: BaseException) -> ShortageError | None:
    """The shortage behind an exception, however it was wrapped; None where it has another cause.

    A StoreError has said already what is wrong with the store: a full store is not this.
    """
    for cause in _causes(error):
        if isinstance(cause, ShortageError):
            return cause
        if isinstance(cause, StoreError):
            return None
        lack = _lack_of(cause)
        if lack is not None:
            return ShortageError.of(lack)
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and those it was made of: raised from, raised while handling, given as an argument, by path."""
    waiting, seen = [error], set[int]()
    while waiting and len(seen) < _DEEPEST:
        cause = waiting.pop(0)
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        by_path = getattr(cause, "exception_details", None)  # Beam's file systems
        made_of = [cause.__cause__, cause.__context__, *cause.args, *(by_path.values() if by_path else ())]
        waiting += [part for part in made_of if isinstance(part, BaseException)]


def _lack_of(error: BaseException) -> Lack | None:
    if isinstance(error, MemoryError):
        return Lack.MEMORY
    if isinstance(error, socket.gaierror):
        return Lack.MEMORY if error.errno == socket.EAI_MEMORY else None  # its numbers are not the system's
    if isinstance(error, OSError):
        return _OF_ERRNO.get(error.errno or 0)
    if isinstance(error, RuntimeError) and str(error) == "can't start new thread":
        return Lack.THREADS
    return None


def is_short(lack: Lack) -> bool:
    """Whether there is still too little of it, found out by trying to take a little."""
    try:
        _take_some(lack)
    except (OSError, MemoryError, RuntimeError):
        return True
    return False


def _take_some(lack: Lack) -> None:
    if lack is Lack.DESCRIPTORS:
        with contextlib.ExitStack() as opened:
            for _ in range(_PROBE_DESCRIPTORS):
                opened.callback(os.close, os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    elif lack is Lack.MEMORY:
        mmap.mmap(-1, _PROBE_BYTES).close()  # not touched: asks for it and no more
    elif lack is Lack.DISK:
        with tempfile.TemporaryFile() as file:
            os.posix_fallocate(file.fileno(), 0, _PROBE_DISK_BYTES)
    else:
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()


def refuse_if_short(lack: Lack) -> None:
    """Before what fails otherwise without saying why: a resolver or TLS that could open no file says "not found".

    Raises:
        ShortageError: There is too little of it now.
    """
    if is_short(lack):
        raise ShortageError.of(lack)
