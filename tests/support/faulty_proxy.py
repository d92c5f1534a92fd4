"""A proxy in front of a store's server that fails one request in twenty, some after they were carried out."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable

from tests.support.proxy import NO_FAULT, Fault, Proxy

FAULTS = (
    Fault("500", "before"),
    Fault("dropped", "after"),
    Fault("503", "before"),
    Fault("dropped", "before"),
    Fault("503", "after"),
    Fault("500", "after"),
)
"""In this order, over and over; "after": the server has done what was asked, and the client does not hear of it."""


class FaultyProxy(Proxy):
    """Fails every so many requests, whatever they are.

    Attributes:
        requests: How many came.
        faults: How many failed, by fault.
        lost_answers: Requests ("METHOD path") that the server carried out and the client was not told of.
    """

    def __init__(self, upstream_port: int, every: int = 20) -> None:
        super().__init__(upstream_port)
        self.requests = 0
        self.faults: Counter[Fault] = Counter()
        self.lost_answers: list[str] = []
        self._every = every
        self._sequence = itertools.cycle(FAULTS)
        self._lock = threading.Lock()

    def __enter__(self) -> FaultyProxy:
        super().__enter__()
        return self

    def next_fault(self, request: str) -> tuple[Fault, Callable[[], object]]:
        """What happens to a request; nothing to nineteen of twenty."""
        with self._lock:
            self.requests += 1
            if self.requests % self._every:
                return NO_FAULT, lambda: None
            fault = next(self._sequence)
            self.faults[fault] += 1
            if fault.when == "after":
                self.lost_answers.append(request)
            return fault, lambda: None
