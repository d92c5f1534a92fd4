"""Shelfmark's index against FAISS and hnswlib over the same vectors: one table, every figure measured.

python -m benchmarks.index_search [--quick] [--only PART] [--rows N] [--work DIR]

Every step runs in a process of its own, and leaves its figures in the working folder: parts can be run one by one. A
search runs on one core, a build on all. Run without --only, it ends with the winners measured again, taking turns.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.index_cases import TARGETS
from benchmarks.index_measures import PeakMemory
from benchmarks.index_table import best, machine, million_lines, point_key, table_lines
from pipelines.processor import choose_blas_kernels

Record = dict[str, Any]

TURNS = 3
MILLION_TIMES = 10
"""The part "million" has this many times --rows."""

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_LEAST_ROWS_PER_LIST = 39  # FAISS warns below


def run_case(
    case: str, folder: Path, options: Record, pool_threads: int, peak_mb: dict[str, float] | None = None
) -> Record:
    """One case in a fresh process.

    Args:
        case: A name in index_cases.CASES.
        folder: Where it finds and leaves its files.
        options: Its other arguments.
        pool_threads: For libraries that go by an environment variable.
        peak_mb: Filled with the peak memory of the process and its children, if given.

    Raises:
        SystemExit: It failed, with what it said.
    """
    command = [sys.executable, "-m", "benchmarks.index_cases", case, json.dumps({"folder": str(folder), **options})]
    environment = {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(pool_threads)), "TF_CPP_MIN_LOG_LEVEL": "3"}
    start_s = time.monotonic()
    with contextlib.ExitStack() as running:
        process = running.enter_context(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
        memory = None if peak_mb is None else running.enter_context(PeakMemory(process.pid))
        said, errors = process.communicate()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{errors}")
    if peak_mb is not None and memory is not None:
        peak_mb.update(memory.peak_mb)
    named = " ".join(str(value) for value in options.values() if not isinstance(value, list))
    _say(f"{case} {named}: {time.monotonic() - start_s:.0f} s")
    result: Record = json.loads(said.splitlines()[-1])
    return result


def _say(line: str) -> None:
    sys.stderr.write(f"  {line}\n")


class Benchmark:
    """The parts, each of which measures something and returns the record that is kept of it."""

    def __init__(self, flags: argparse.Namespace) -> None:
        self._flags = flags
        self._rows: int = flags.rows
        self._threads: int = flags.build_threads
        self.work = Path(flags.work) / f"{self._rows}-rows-seed-{flags.seed}"
        self.work.mkdir(parents=True, exist_ok=True)
        self.parts: dict[str, Callable[[], Record]] = {
            "data": self.data,
            "ours": self.ours,
            "faiss": self.faiss,
            "hnsw": self.hnsw,
            "filters": self.filters,
            "race": self.race,
            "million": self.million,
        }

    def kept(self, part: str) -> Record | None:
        """What was measured before."""
        path = self.work / f"{part}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def run(self, part: str) -> None:
        """Measures one part and keeps its record."""
        _say(part)
        record = self.parts[part]()
        (self.work / f"{part}.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

    def data(self) -> Record:
        """The snapshot, the array, the queries and their truth. What was measured on others is dropped."""
        for old in self.work.glob("*.json"):
            if old.stem != "million":
                old.unlink()
        options = {"rows": self._rows, "seed": self._flags.seed, "keep_vectors": True, "filters": True}
        return run_case("data", self.work, options, self._threads)

    def ours(self) -> Record:
        """Shelfmark: built once, searched at every setting that its tuning tried."""
        build = self._build("build_ours", target_recall=self._flags.target_recall)
        searched = self._search("ours", {}, build["settings"] or [{}])
        return {"runs": [{"which": {}, **build, **searched}]}

    def faiss(self) -> Record:
        """Every build, with its best candidates ranked by each kind of whole vectors."""
        wholes = ("SQ8",) if self._flags.quick else ("SQ8", "Flat")
        builds = {name: self._build("build_faiss", factory=name) for name in wholes}
        runs = []
        probes, factors = [8, 16, 32, 64, 128], [5, 8, 12, 20, 30, 40]
        if self._flags.quick:
            probes, factors = probes[1:4], factors[1::2]
        settings = [{"nprobe": nprobe, "k_factor": factor} for nprobe in probes for factor in factors]
        for name in self._faiss_factories():
            base = self._build("build_faiss", factory=name)
            # Flat ranks hardly better than SQ8 and takes four times the memory: shown once.
            for whole in wholes if "PCA128,IVF256" in name else wholes[:1]:
                which = {"build": name, "refine": whole}
                costs = {cost: base[cost] + builds[whole][cost] for cost in ("build_s", "disk_mb")}
                runs.append({"which": which, **costs, **self._search("faiss", which, settings)})
        return {"runs": runs}

    def _faiss_factories(self) -> list[str]:
        most_lists = max(16, self._rows // _LEAST_ROWS_PER_LIST)
        lists = sorted({min(count, most_lists) for count in ((256, 1024) if self._flags.quick else (256, 512, 1024))})
        projected = [
            f"PCA{dimensions},IVF{count},PQ{dimensions // 2}x4fs"
            for dimensions in ((128, 256) if self._flags.quick else (96, 128, 192, 256))
            for count in lists
        ]
        # Without a projection. OPQ from 2,048 dimensions is left out: it trains for minutes even on 5,000 vectors.
        return projected if self._flags.quick else [*projected, f"IVF{lists[len(lists) // 2]},PQ256x4fs"]

    def hnsw(self) -> Record:
        """Both numbers of links."""
        runs = []
        for m in (16,) if self._flags.quick else (16, 32):
            build = self._build("build_hnsw", m=m)
            settings = [{"ef": ef} for ef in (20, 30, 40, 50, 100, 200, 400, 800)]
            runs.append({"which": {"m": m}, **build, **self._search("hnsw", {"m": m}, settings)})
        return {"runs": runs}

    def filters(self) -> Record:
        """Shelfmark where only some rows may be answers."""
        return run_case("filters", self.work, {}, 1)

    def race(self) -> Record:
        """The winner of each contestant at each recall again, taking turns against the machine's noise."""
        winners: dict[str, tuple[str, Record, Record]] = {}
        for kind in ("ours", "faiss", "hnsw"):
            for target in TARGETS:
                if won := best(self.kept(kind), target):
                    run, point = won
                    winners[point_key(kind, run, point)] = (kind, run["which"], point["setting"])
        rates: dict[str, list[tuple[float, float]]] = {name: [] for name in winners}
        for _ in range(TURNS):
            for name, (kind, which, setting) in winners.items():
                (point,) = self._search(kind, which, [setting])["points"]
                rates[name].append((point["queries_per_s"], point["batch_queries_per_s"]))
        return {
            name: [statistics.median(column) for column in zip(*turns, strict=True)] for name, turns in rates.items()
        }

    def million(self) -> Record:
        """A catalog ten times as large, streamed, and built within a memory limit."""
        folder = self.work / "million"
        options = {"seed": self._flags.seed, "keep_vectors": False, "filters": False}
        data = run_case("data", folder, {"rows": self._rows * MILLION_TIMES, **options}, self._threads)
        limit_gib = self._flags.memory_limit_gib
        options = {"target_recall": self._flags.target_recall, "threads": self._threads, "memory_limit_gib": limit_gib}
        peak_mb: dict[str, float] = {}
        build = run_case("build_ours", folder, options, self._threads, peak_mb)
        searched = run_case("search", folder, {"kind": "ours", "which": {}, "settings": [{}]}, 1)
        return {"data": data, "build": build, "limit_gib": limit_gib, "peak_mb": peak_mb, **searched}

    def _build(self, case: str, **options: Any) -> Record:
        return run_case(case, self.work, {**options, "threads": self._threads}, self._threads)

    def _search(self, kind: str, which: Record, settings: list[Record]) -> Record:
        return run_case("search", self.work, {"kind": kind, "which": which, "settings": settings}, 1)


def check_installed(parts: list[str]) -> None:
    """Refuses before anything is measured.

    Raises:
        SystemExit: A library that one of the parts needs is not installed.
    """
    needed = {"faiss": "faiss", "hnsw": "hnswlib", "million": "psutil"}
    missing = [needed[part] for part in parts if part in needed and importlib.util.find_spec(needed[part]) is None]
    if missing:
        raise SystemExit(
            f"expected {', '.join(missing)} to be installed, found none; "
            "run make bench-index, or python constraints/install.py bench"
        )


def main() -> None:
    """Measures what was asked for, and prints the table of all that has been measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000, help="vectors; ten times as many in the part million")
    parser.add_argument("--quick", action="store_true", help="fewer builds and settings of FAISS and hnswlib")
    parser.add_argument("--only", choices=("data", "ours", "faiss", "hnsw", "filters", "race", "million"))
    parser.add_argument("--work", default="build/bench-index", help="working folder; about 4 GB for 100,000 rows")
    parser.add_argument("--seed", type=int, default=0, help="of the vectors")
    parser.add_argument("--target_recall", type=float, default=0.95, help="what Shelfmark's index is built for")
    parser.add_argument("--build_threads", type=int, default=os.cpu_count(), help="threads of every build")
    parser.add_argument("--memory_limit_gib", type=float, default=6.0, help="of the build in the part million")
    flags = parser.parse_args()
    choose_blas_kernels()
    benchmark = Benchmark(flags)
    parts = [flags.only] if flags.only else [part for part in benchmark.parts if part != "million"]
    check_installed(parts)
    if parts[0] not in ("data", "million") and benchmark.kept("data") is None:
        parts.insert(0, "data")
    elif flags.only is None and benchmark.kept("data"):
        parts.remove("data")
    for part in parts:
        benchmark.run(part)
    records = {part: benchmark.kept(part) for part in benchmark.parts}
    print("\n".join([machine(), *table_lines(records, flags.build_threads), *million_lines(records["million"])]))


if __name__ == "__main__":
    main()
