"""Compare-and-swap on one small file: a local folder, s3:// and gs:// alike.

What is written must differ from whatever anybody else writes there (an owner's name, a time): a request whose answer
was lost is told from a lost race by reading the file again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import os
import posixpath
from collections.abc import Iterator
from typing import Protocol

from store.errors import StoreError, UserError
from store.location import Store
from store.objects import OtherWriter, Versioned, find_object

_ATTEMPTS = 10


class _Cell(Protocol):
    def read(self) -> Versioned | None: ...

    def write(self, data: bytes, token: str | None) -> str: ...


def read_versioned(store: Store, path: str) -> Versioned | None:
    """A file and its token, or None where there is no such file.

    Raises:
        StoreError: It cannot be read.
        UserError: The store is of a kind without conditional writes, or its client library is missing.
    """
    return _cell(store, path).read()


def write_if(store: Store, path: str, data: bytes, token: str | None) -> str | None:
    """Writes a file if it is still the one of `token`, or with None if there is none yet.

    Where the store does not say whether it was written, the file is read back; what was there is never deleted.

    Returns:
        The new token, or None where somebody else was faster and nothing was written.

    Raises:
        StoreError: It could not be written, or nobody can tell whether it was: the message says which.
        UserError: The store is of a kind without conditional writes, or its client library is missing.
    """
    cell = _cell(store, path)
    for _ in range(_ATTEMPTS):
        try:
            return cell.write(data, token)
        except OtherWriter:
            found = cell.read()
            if found is not None and found.data == data:
                return found.token  # ours: the answer was lost on the way and the client library asked again
            if (found.token if found else None) != token:
                return None
        except StoreError as failure:
            written = _read_back(cell, data, failure)
            if written is None:
                raise
            return written
    raise StoreError(f"cannot write {store.full_path(path)}: refused {_ATTEMPTS} times although nobody else wrote it")


def _read_back(cell: _Cell, data: bytes, failure: StoreError) -> str | None:
    """The token of `data` if it was written after all, None if it was not."""
    try:
        found = cell.read()
    except StoreError as error:
        raise StoreError(f"{failure}; nor can it be read back: whether it was written shows once it can") from error
    return found.token if found is not None and found.data == data else None


def _cell(store: Store, path: str) -> _Cell:
    found = find_object(store.full_path(path))
    if found is not None:
        return found
    if store.local_path(path) is not None:
        return _LocalCell(store, path)
    raise UserError(f"--store {store.uri}: expected a local folder, s3:// or gs://, which can write conditionally")


@dataclasses.dataclass(frozen=True, slots=True)
class _LocalCell:
    store: Store
    path: str

    def read(self) -> Versioned | None:
        try:
            data = self.store.read(self.path)
        except FileNotFoundError:
            return None
        return Versioned(data, hashlib.sha256(data).hexdigest())

    def write(self, data: bytes, token: str | None) -> str:
        with self._guarded():
            found = self.read()
            if (found.token if found else None) != token:
                raise OtherWriter
            self.store.replace(self.path, data)
        return hashlib.sha256(data).hexdigest()

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Holds a file that is locked but never replaced or deleted; the kernel lets go of a dead process's lock."""
        guard = str(self.store.local_path(f"locks/{posixpath.basename(self.path)}.guard"))
        try:
            os.makedirs(os.path.dirname(guard), exist_ok=True)
            descriptor = os.open(guard, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise StoreError(f"cannot write {guard}: {error}") from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError as error:  # a network file system may have no locks
                raise StoreError(f"cannot lock {guard}: {error}") from error
            yield
        finally:
            os.close(descriptor)
