"""Prints one table, every figure measured in this run, each case in a process of its own.

python -m benchmarks.embed_throughput [--quick] [--only PART]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.pictures import make_catalog
from encoder.precision import read_cpu_info
from transforms.progress import ProgressFile

REPEATS = 2
"""Cases that are compared are run this often, taking turns; the median of both rates counts."""


def run_case(case: str, **fields: Any) -> dict[str, Any]:
    """One case in a fresh process.

    Raises:
        SystemExit: It failed, with what it said.
    """
    arguments = [f"{name}={value}" for name, value in fields.items()]
    command = [sys.executable, "-m", "benchmarks.embed_cases", case, *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def seconds_to_first_embedding(catalog: Path, store: Path) -> float:
    """From starting `shelfmark embed` to its first embedding, as a user would wait."""
    with tempfile.TemporaryDirectory() as scratch:
        start_s = time.time()
        command = [sys.executable, "-m", "pipelines.cli.main", "embed", "--weights", "random", "--format", "json"]
        environment = {**os.environ, "TMPDIR": scratch}
        with subprocess.Popen(
            [*command, "--catalog", str(catalog), "--store", str(store)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        ) as process:
            while process.poll() is None:
                for path in Path(scratch).glob("shelfmark-*/progress"):
                    first_s = ProgressFile(str(path)).read().first_embedding_at_s
                    if first_s:
                        process.kill()
                        return first_s - start_s
                time.sleep(0.05)
    raise SystemExit("shelfmark embed ended without an embedding")


def median(values: list[float]) -> float:
    """The middle one, or the mean of the two in the middle."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def measure_rates(folder: Path, pictures: int, seconds: float) -> list[tuple[str, str]]:
    """Bare model, pipeline at two picture sizes and stock RunInference, taking turns against the machine's noise."""
    store = str(folder / "store")
    catalogs = {side: str(make_catalog(folder, f"rate-{side}", pictures, side)) for side in (500, 1500)}
    few = str(make_catalog(folder, "stock-500", max(96, pictures // 2), 500))
    rates: dict[str, list[float]] = {}
    precision = ""
    for _ in range(REPEATS):
        for name, case, fields in (
            ("float32", "bare", {"store": store, "precision": "float32", "seconds": seconds}),
            ("chosen", "bare", {"store": store, "precision": "auto", "seconds": seconds}),
            ("500", "pipeline", {"store": store, "catalog": catalogs[500]}),
            ("1500", "pipeline", {"store": store, "catalog": catalogs[1500]}),
            ("stock", "stock", {"catalog": few}),
            ("stock 32", "stock", {"catalog": few, "batch_size": 32}),
        ):
            result = run_case(case, **fields)
            rates.setdefault(name, []).append(result["pictures_per_s"])
            precision = result.get("precision", precision)
    rate = {name: median(values) for name, values in rates.items()}
    return [
        ("bare model, float32", f"{rate['float32']:.1f} pictures/s"),
        (f"bare model, {precision} (chosen)", f"{rate['chosen']:.1f} pictures/s"),
        ("pipeline, 500 px JPEG", f"{rate['500']:.1f} pictures/s"),
        ("  efficiency", f"{rate['500'] / rate['chosen']:.2f}"),
        ("pipeline, 1,500 px JPEG", f"{rate['1500']:.1f} pictures/s"),
        ("  efficiency", f"{rate['1500'] / rate['chosen']:.2f}"),
        ("stock RunInference, 500 px JPEG", f"{rate['stock']:.1f} pictures/s"),
        ("  pipeline / stock", f"{rate['500'] / rate['stock']:.2f}"),
        ("stock RunInference, batches fixed at 32", f"{rate['stock 32']:.1f} pictures/s"),
        ("  pipeline / stock at 32", f"{rate['500'] / rate['stock 32']:.2f}"),
    ]


def measure_overlap(folder: Path, pictures: int, seconds: float, hold_s: float) -> list[tuple[str, str]]:
    """The pipeline with a device that holds 64 pictures for `hold_s`, against the slower of device and decoder."""
    catalog = str(make_catalog(folder, "overlap", pictures, 500))
    decode = run_case("decode", catalog=catalog, seconds=seconds)["pictures_per_s"]
    rate = run_case("fake", store=str(folder / "store"), catalog=catalog, hold_s=hold_s)["pictures_per_s"]
    device = 64 / hold_s
    return [
        ("decode alone, 500 px JPEG", f"{decode:.0f} pictures/s"),
        (f"device alone, 64 pictures in {hold_s * 1000:.0f} ms", f"{device:.0f} pictures/s"),
        ("pipeline with that device", f"{rate:.0f} pictures/s"),
        ("  overlap", f"{rate / min(decode, device):.2f}"),
    ]


def measure_memory(folder: Path, model_rows: tuple[int, int], fake_rows: tuple[int, int]) -> list[tuple[str, str]]:
    """Peak memory of the whole process at two catalog sizes, with the model and with a fake encoder."""
    store = str(folder / "store")
    lines = []
    for title, case, rows, fields in (
        ("ResNet50", "pipeline", model_rows, {}),
        ("fake encoder", "fake", fake_rows, {"hold_s": 0.0}),
    ):
        side = 500 if case == "pipeline" else 64
        peaks = [
            run_case(case, store=store, catalog=make_catalog(folder, f"{case}-{count}", count, side), **fields)[
                "peak_memory_mb"
            ]
            for count in rows
        ]
        lines += [
            (f"peak memory, {title}, {count:,} pictures", f"{peak:.0f} MB")
            for count, peak in zip(rows, peaks, strict=True)
        ]
        lines.append(("  growth", f"{peaks[1] - peaks[0]:+.0f} MB ({peaks[1] / peaks[0] - 1:+.1%})"))
    return lines


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the pictures, for trying the benchmark itself")
    parser.add_argument("--only", choices=("rates", "overlap", "start", "memory"), help="one part of the table")
    flags = parser.parse_args()
    scale = 10 if flags.quick else 1
    with tempfile.TemporaryDirectory(prefix="shelfmark-bench-") as scratch:
        folder = Path(scratch)
        parts = {
            "rates": lambda: measure_rates(folder, 960 // scale, 15 / scale),
            "overlap": lambda: measure_overlap(folder, 6400 // scale, 5, 0.15),
            "start": lambda: [
                (
                    "start to first embedding",
                    f"{seconds_to_first_embedding(make_catalog(folder, 'start', 256, 500), folder / 'fresh'):.1f} s",
                )
            ],
            "memory": lambda: measure_memory(
                folder, (1000 // scale, 10_000 // scale), (10_000 // scale, 300_000 // scale)
            ),
        }
        print(f"{_machine()}\n")
        for name, measure in parts.items():
            if flags.only in (None, name):
                for title, value in measure():
                    print(f"{title:<44}{value:>24}", flush=True)


def _machine() -> str:
    flags, vendor = read_cpu_info()
    features = ", ".join(sorted(flags & {"avx2", "avx512f", "avx512_bf16", "amx_bf16", "avx512_fp16"}))
    return f"{os.cpu_count()} cores, {vendor or platform.processor()} ({features}), Python {platform.python_version()}"


if __name__ == "__main__":
    main()
