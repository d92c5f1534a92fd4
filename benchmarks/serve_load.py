"""The server under load from k6: throughput, latency, hot swaps, overload; every figure measured.

python -m benchmarks.serve_load [--only PART] [--rows N] [--seconds S] [--work DIR]

Parts leave their figures in the working folder and can be run one by one. Vector queries are answered on half of the
cores while the load generator has the others, and the searcher alone is measured on the server's half; picture queries
are answered on all cores. Needs k6, https://k6.io, on PATH or named in SHELFMARK_K6.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.index_table import machine
from benchmarks.serve_client import find_k6
from benchmarks.serve_data import make_store
from benchmarks.serve_rates import Setting, measure_nothing, measure_pictures, measure_vectors
from benchmarks.serve_stress import measure_overload, measure_swaps
from benchmarks.serve_table import table_lines
from pipelines.cli.flag_types import positive, recall_target, seconds
from pipelines.processor import choose_blas_kernels

Record = dict[str, Any]

PARTS: dict[str, Callable[[Setting], Record]] = {
    "nothing": measure_nothing,
    "vectors": measure_vectors,
    "pictures": measure_pictures,
    "swaps": measure_swaps,
    "overload": measure_overload,
}


def split_cores(cores: set[int]) -> tuple[frozenset[int], frozenset[int]]:
    """Half of the cores for a server, the larger half for its load generator.

    Raises:
        SystemExit: There is only one.
    """
    if len(cores) < 2:
        raise SystemExit(f"expected two cores, one for the server and one for the load generator, found {len(cores)}")
    ordered = sorted(cores)
    half = len(ordered) // 2
    return frozenset(ordered[:half]), frozenset(ordered[half:])


def kept(folder: Path, part: str) -> Record | None:
    """What was measured before."""
    path = folder / f"{part}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def keep(folder: Path, part: str, record: Record) -> None:
    """Writes what `kept` reads."""
    (folder / f"{part}.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _make_data(folder: Path, flags: argparse.Namespace) -> None:
    """Anew; what was measured on other data is dropped."""
    for part in PARTS:
        (folder / f"{part}.json").unlink(missing_ok=True)
    keep(folder, "data", make_store(folder, flags.rows, flags.seed, flags.target_recall))


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("data", *PARTS))
    parser.add_argument("--rows", type=positive, default=100_000, help="vectors in the index")
    parser.add_argument(
        "--seconds", type=seconds, default=10.0, help="of every measurement; of overload three times that"
    )
    parser.add_argument("--turns", type=positive, default=3, help="of what is compared; medians count")
    parser.add_argument("--work", default="build/bench-serve", help="working folder; 1.2 GB for 100,000 rows")
    parser.add_argument("--seed", type=int, default=0, help="of the vectors")
    parser.add_argument("--target_recall", type=recall_target, default=0.95, help="what the index is built for")
    return parser.parse_args(arguments)


def main() -> None:
    """Measures what was asked for, and prints the tables of all that has been measured."""
    flags = _parse(sys.argv[1:])
    choose_blas_kernels()
    find_k6()
    cores = os.sched_getaffinity(0)
    server_cores, client_cores = split_cores(cores)
    folder = Path(flags.work) / f"{flags.rows}-rows-seed-{flags.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    setting = Setting(folder, flags.seconds, flags.turns, server_cores, client_cores, frozenset(cores))
    if flags.only == "data" or kept(folder, "data") is None:
        sys.stderr.write("  data\n")
        _make_data(folder, flags)
    for part in PARTS if flags.only is None else [flags.only]:
        if part in PARTS:
            sys.stderr.write(f"  {part}\n")
            keep(folder, part, PARTS[part](setting))
    print(machine())
    print(
        f"{flags.rows:,} vectors; vector queries: server on {len(server_cores)} cores, k6 on {len(client_cores)} others"
    )
    print("\n".join(table_lines({part: kept(folder, part) for part in PARTS})))


if __name__ == "__main__":
    main()
