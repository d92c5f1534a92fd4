"""Numbers that many threads note and one takes: a runner's metrics belong to the thread that its DoFn is called in."""

from __future__ import annotations

import collections
import contextlib
import time
from collections.abc import Iterator


class Measured:
    """What was measured since it was last taken. Thread-safe: each operation is one of a deque's own."""

    def __init__(self) -> None:
        self._noted: collections.deque[tuple[str, float]] = collections.deque()
        self._left: dict[str, float] = {}

    def note(self, name: str, value: float) -> None:
        """Notes a number under a name that ends in its unit, such as fetch_ms."""
        self._noted.append((name, value))

    @contextlib.contextmanager
    def time(self, name: str) -> Iterator[None]:
        """Notes the milliseconds that the block takes, if it ends well."""
        began = time.perf_counter()
        yield
        self.note(name, 1000.0 * (time.perf_counter() - began))

    def take(self) -> Iterator[tuple[str, int]]:
        """Gives out what there is, each number once; for one thread.

        As whole numbers, which is what Beam's distributions take: what rounding down leaves of a number goes to the
        next of its name, so that many decodes of a third of a millisecond add up to what they took.
        """
        while self._noted:
            name, value = self._noted.popleft()
            exact = value + self._left.get(name, 0.0)
            self._left[name] = exact % 1.0
            yield name, int(exact)
