"""A run's progress, from any process of this machine to the one that shows it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import struct
import time

_RECORD = struct.Struct("<dqqqq")


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """Sums so far.

    Attributes:
        at_s: time.time() of the newest record, 0.0 where there is none.
        first_embedding_at_s: time.time() of the first embedding, 0.0 before it.
    """

    total: int = 0
    embedded: int = 0
    rejected: int = 0
    reused: int = 0
    at_s: float = 0.0
    first_embedding_at_s: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class ProgressFile:
    """Fixed-size records appended to one local file: small appends are atomic, whichever process makes them.

    Attributes:
        path: The file; empty where nobody watches.
    """

    path: str

    def record(self, *, total: int = 0, embedded: int = 0, rejected: int = 0, reused: int = 0) -> None:
        """Adds to the sums. A file that is gone, on another machine or on a full disk is no reason to stop a run."""
        if not self.path:
            return
        with contextlib.suppress(OSError):
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND)
            try:
                os.write(descriptor, _RECORD.pack(time.time(), total, embedded, rejected, reused))
            finally:
                os.close(descriptor)

    def records(self) -> list[tuple[float, int, int, int, int]]:
        """Every record so far: time.time(), then rows added to total, embedded, rejected and reused."""
        with open(self.path, "rb") as file:
            data = file.read()
        return list(_RECORD.iter_unpack(data[: len(data) - len(data) % _RECORD.size]))

    def read(self) -> Progress:
        """The sums so far."""
        records = self.records()
        first = next((at for at, _, embedded, _, _ in records if embedded), 0.0)
        return Progress(
            total=sum(record[1] for record in records),
            embedded=sum(record[2] for record in records),
            rejected=sum(record[3] for record in records),
            reused=sum(record[4] for record in records),
            at_s=max((record[0] for record in records), default=0.0),
            first_embedding_at_s=first,
        )
