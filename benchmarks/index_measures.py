"""Recall, speed and memory, measured alike for every contestant."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from benchmarks.index_data import K, Questions
from benchmarks.vectors import FloatArray

RowArray = npt.NDArray[np.int64]
Search = Callable[[FloatArray], tuple[RowArray, FloatArray]]
"""float32[m, D] -> rows int64[m, K + 1], cosines float32[m, K + 1]: one more, because a query finds itself."""

ROUNDS = 5
QUERIES_PER_ROUND = 300
BATCH = 256
SAMPLE_EVERY_S = 0.5


def recall(found: RowArray, questions: Questions, truth: RowArray) -> float:
    """Recall@K of found int64[q, K + 1]: the share of the true neighbours among the K best, a query's own row apart."""
    hits = total = 0
    for answer, query, true in zip(found, questions.rows, truth, strict=True):
        wanted = set(true[true >= 0].tolist())
        hits += len(wanted & set(answer[answer != query][:K].tolist()))
        total += len(wanted)
    return hits / total if total else 1.0


def queries_per_s(search: Search, vectors: FloatArray, batch: int = 1, rounds: int = ROUNDS) -> float:
    """The median rate of several rounds of QUERIES_PER_ROUND queries (whole batches), after a few to warm up."""
    count = max(1, round(QUERIES_PER_ROUND / batch))
    batches = [np.take(vectors, range(i * batch, (i + 1) * batch), axis=0, mode="wrap") for i in range(count)]
    for queries in batches[:20]:
        search(queries)
    rates = []
    for _ in range(rounds):
        start_s = time.perf_counter()
        for queries in batches:
            search(queries)
        rates.append(count * batch / (time.perf_counter() - start_s))
    return statistics.median(rates)


def resident_mb(pid: int | str = "self") -> dict[str, float]:
    """What a process holds in memory: "anonymous", "file" (pages of files that it maps) and their sum, "total"."""
    fields = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]:
        name, size_kib = line.split()[:2]
        fields[name] = int(size_kib) * 1024 / 1e6
    total, anonymous = fields["Rss:"], fields["Anonymous:"]
    return {"total": total, "anonymous": anonymous, "file": total - anonymous}


def growth_mb(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """What was added between two of `resident_mb`."""
    return {name: after[name] - before[name] for name in before}


class PeakMemory:
    """Samples the memory of a process and all its descendants while a block runs.

    Attributes:
        peak_mb: The highest sums seen, as `resident_mb` names them. Pages that processes share are counted in each.
    """

    def __init__(self, pid: int) -> None:
        self.peak_mb: dict[str, float] = {}
        self._pid = pid
        self._done = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._sampler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._sampler.join()

    def _sample(self) -> None:
        import psutil

        while not self._done.wait(SAMPLE_EVERY_S):
            sums: dict[str, float] = {}
            try:
                pids = [self._pid, *(child.pid for child in psutil.Process(self._pid).children(recursive=True))]
            except psutil.Error:
                continue
            for pid in pids:
                try:
                    held = resident_mb(pid)
                except (OSError, KeyError):
                    continue  # it ended since it was listed
                sums = {name: sums.get(name, 0.0) + size for name, size in held.items()}
            self.peak_mb = {name: max(size, self.peak_mb.get(name, 0.0)) for name, size in sums.items()}


def hold_to_one_core() -> None:
    """From here on nothing in this process runs in parallel, whatever threads a library starts."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
