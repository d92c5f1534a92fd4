"""Numbers that many threads note and one takes: a runner's metrics belong to the thread that its DoFn is called in."""

from __future__ import annotations

import collections
import contextlib
import time
from collections.abc import Iterator


class Measured:
    """What was measured since it was last taken. Thread-safe: each operation is one of a deque's own."""

    def __init__(self) -> None:
        self._noted: collections.deque[tuple[str, int]] = collections.deque()

    def note(self, name: str, value: int) -> None:
        """Notes a number under a name that ends in its unit, such as fetch_ms."""
        self._noted.append((name, value))

    @contextlib.contextmanager
    def time(self, name: str) -> Iterator[None]:
        """Notes the milliseconds that the block takes, if it ends well."""
        began = time.perf_counter()
        yield
        self.note(name, round(1000 * (time.perf_counter() - began)))

    def take(self) -> Iterator[tuple[str, int]]:
        """Gives out what there is, each number once."""
        while self._noted:
            yield self._noted.popleft()
