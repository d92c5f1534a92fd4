"""A store in memory that is handled as an object store is: no folders to make, no names on this machine's disk."""

from __future__ import annotations

import hashlib
import threading
import uuid

import pytest

from store import conditional
from store.location import Store
from store.objects import OtherWriter, Versioned

_ONE_WRITER = threading.Lock()


class MemoryCell:
    """What conditional writes need; the file system in memory has no condition of its own."""

    def __init__(self, store: Store, path: str) -> None:
        self._store = store
        self._path = path

    def read(self) -> Versioned | None:
        try:
            data = self._store.read(self._path)
        except FileNotFoundError:
            return None
        return Versioned(data, hashlib.sha256(data).hexdigest())

    def write(self, data: bytes, token: str | None) -> str:
        with _ONE_WRITER:
            found = self.read()
            if (found.token if found else None) != token:
                raise OtherWriter
            self._store.replace(self._path, data)
        return hashlib.sha256(data).hexdigest()


def memory_store(monkeypatch: pytest.MonkeyPatch) -> Store:
    """A new store of its own for a test."""
    plain = conditional._cell

    def cell(store: Store, path: str) -> conditional._Cell:
        return MemoryCell(store, path) if store.uri.startswith("mock://") else plain(store, path)

    monkeypatch.setattr(conditional, "_cell", cell)
    return Store(f"mock:///{uuid.uuid4().hex}")
