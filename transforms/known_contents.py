"""Which contents a snapshot has embeddings of, by digest: pictures that moved, or came back, need no model."""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from transforms.previous import PreviousSnapshot


class KnownContents:
    """Digest of a picture's bytes -> place of its embedding in the previous snapshot. Thread-safe.

    Loaded on the first question, as a run that fetches nothing asks none. Holds 24 bytes per row: 2.4 GB for a hundred
    million; the half of SHA-256 that is compared is met twice by chance among so many with probability 3e-23.
    """

    def __init__(self, previous: PreviousSnapshot | None) -> None:
        self._previous = previous
        self._lock = threading.Lock()
        self._table: tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64], npt.NDArray[np.int64]] | None = None

    def find(self, content_sha256: str) -> int | None:
        """The place of an embedding of this content, None where there is none."""
        if self._previous is None or not self._previous.rows:
            return None
        with self._lock:
            if self._table is None:
                self._table = _load(self._previous)
        high, low, places = self._table
        wanted = np.uint64(int(content_sha256[:16], 16)), np.uint64(int(content_sha256[16:32], 16))
        first, last = np.searchsorted(high, wanted[0], "left"), np.searchsorted(high, wanted[0], "right")
        found = np.flatnonzero(low[first:last] == wanted[1])
        return int(places[first + found].min()) if len(found) else None


def _load(
    previous: PreviousSnapshot,
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    halves = np.empty((previous.rows, 2), np.uint64)
    at = 0
    for part in previous.parts:
        for batch in previous.batches(part, ["content_sha256"]):
            digits = pc.utf8_slice_codeunits(batch["content_sha256"], 0, 32)
            raw = bytes.fromhex("".join(digits.to_pylist()))
            halves[at : at + batch.num_rows] = np.frombuffer(raw, ">u8").reshape(-1, 2)
            at += batch.num_rows
    order = np.argsort(halves[:, 0], kind="stable")
    return halves[order, 0], halves[order, 1], order
