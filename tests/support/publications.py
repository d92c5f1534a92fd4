"""Versions that are published, opened and refused as a test says, without a store."""

from __future__ import annotations

import logging
import threading
import types
from typing import Any

from serving.published import ServedVersion
from tests.support.versions import name_of, version_manifest

POLL_S = 10.0
ONE, TWO, THREE = name_of(1), name_of(2), name_of(3)


def published(name: str) -> ServedVersion:
    """A version without an index."""
    day = int(name[6:8])
    pictures: Any = None
    searcher: Any = types.SimpleNamespace(version=name, manifest=version_manifest(day, day, 0.97))
    return ServedVersion(searcher, None, [], pictures, 0.5)


class Publications:
    """What CURRENT names, and what opening a version leads to."""

    def __init__(self) -> None:
        self.current: str | Exception | None = ONE
        self.broken: dict[str, Exception] = {}
        self.opened: list[str] = []
        self.event = threading.Event()

    def read(self) -> str | None:
        if isinstance(self.current, Exception):
            raise self.current
        return self.current

    def open(self, version: str, before: ServedVersion) -> ServedVersion:
        assert before.version != version
        self.opened.append(version)
        self.event.set()
        if version in self.broken:
            raise self.broken[version]
        return published(version)


class Log(logging.Handler):
    """Keeps the server's own messages."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def events(self) -> list[str]:
        return [record.getMessage() for record in self.records]
