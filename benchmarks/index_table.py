"""The table of the index's benchmark, from the records that its parts keep."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.index_cases import TARGETS
from encoder.precision import read_cpu_info

Record = dict[str, Any]
Winner = tuple[Record, Record]
"""A run (a build and what was measured of it) and one of its points."""

TITLES = {"ours": "Shelfmark", "faiss": "FAISS, best", "hnsw": "hnswlib"}
_ABSENT = "-"


def best(record: Record | None, target: float) -> Winner | None:
    """The run and point of the quickest setting whose recall reaches `target`; None where none does."""
    reached = [
        (run, point)
        for run in (record or {"runs": []})["runs"]
        for point in run["points"]
        if point["recall"] >= target and "batch_queries_per_s" in point
    ]
    return max(reached, key=lambda found: found[1]["queries_per_s"], default=None)


def point_key(kind: str, run: Record, point: Record) -> str:
    """What a setting of a build goes by."""
    return json.dumps([kind, run["which"], point["setting"]], sort_keys=True)


def machine() -> str:
    """Cores, processor and Python of this machine."""
    flags, vendor = read_cpu_info()
    features = ", ".join(sorted(flags & {"avx2", "avx512f", "avx512_vnni", "avx512_bf16"}))
    return f"{os.cpu_count()} cores, {vendor or platform.processor()} ({features}), Python {platform.python_version()}"


def table_lines(records: dict[str, Record | None], build_threads: int) -> Iterator[str]:
    """All but the part "million"; "-" where a recall was not reached or a part was not run."""
    data = records["data"]
    if data is None:
        return
    raw_mb = data["rows"] * data["dimensions"] * 4 / 1e6
    yield f"{data['rows']:,} vectors of {data['dimensions']:,} float32 ({raw_mb:,.0f} MB), {data['queries']:,} queries"
    yield f"recall@10, the query's own row apart; searches on one core, builds with {build_threads} threads"
    yield ""
    yield _line("", [f"recall >= {target:.2f}" for target in TARGETS])
    won = {
        kind: [_raced(kind, best(records[kind], target), records["race"]) for target in TARGETS]
        for kind in TITLES
        if records[kind]
    }
    for kind, found in won.items():
        yield from _speed(TITLES[kind], found)
    for rival in [kind for kind in won if kind != "ours" and "ours" in won]:
        yield _line(f"Shelfmark / {TITLES[rival]}", _ratios(won["ours"], won[rival], "queries_per_s"))
        yield _line("  batches of 256", _ratios(won["ours"], won[rival], "batch_queries_per_s"))
    yield ""
    for kind, found in won.items():
        yield from _costs(TITLES[kind], found, raw_mb)
    yield from _details(won)
    if records["filters"]:
        yield ""
        yield _line("Shelfmark, filtered", ["rows matching", "recall@10", "queries/s"])
        for name, point in records["filters"].items():
            cells = [f"{data['matching'][name]:,}", f"{point['recall']:.3f}", f"{point['queries_per_s']:,.0f}"]
            yield _line(f"  {name}", cells)


def _raced(kind: str, found: Winner | None, race: Record | None) -> Winner | None:
    """The winner, with the rates of the race where it took part in one."""
    if found is None:
        return None
    run, point = found
    rates = (race or {}).get(point_key(kind, run, point))
    if rates is not None:
        point = {**point, "queries_per_s": rates[0], "batch_queries_per_s": rates[1]}
    return run, point


def _line(title: str, cells: list[str]) -> str:
    return f"{title:<38}" + "".join(f"{cell:>18}" for cell in cells)


def _row(title: str, won: list[Winner | None], cell: Callable[[Record, Record], str]) -> str:
    return _line(title, [cell(*found) if found else _ABSENT for found in won])


def _speed(title: str, won: list[Winner | None]) -> Iterator[str]:
    yield _row(f"{title}, queries/s", won, lambda run, point: f"{point['queries_per_s']:,.0f}")
    yield _row("  batches of 256", won, lambda run, point: f"{point['batch_queries_per_s']:,.0f}")
    yield _row("  recall@10", won, lambda run, point: f"{point['recall']:.3f}")


def _ratios(ours: list[Winner | None], theirs: list[Winner | None], rate: str) -> list[str]:
    return [
        f"{mine[1][rate] / other[1][rate]:.2f}" if mine and other else _ABSENT
        for mine, other in zip(ours, theirs, strict=True)
    ]


def _costs(title: str, won: list[Winner | None], raw_mb: float) -> Iterator[str]:
    yield _row(f"{title}, build", won, lambda run, point: f"{run['build_s']:.1f} s")
    if any(found and "tune_s" in found[0] for found in won):
        yield _row("  tuning and measuring", won, lambda run, point: f"{run['tune_s']:.1f} s")
    yield _row("  resident memory", won, lambda run, point: f"{run['memory_mb']['total']:,.0f} MB")
    yield _row("    anonymous", won, lambda run, point: f"{run['memory_mb']['anonymous']:,.0f} MB")
    yield _row("    pages of files", won, lambda run, point: f"{run['memory_mb']['file']:,.0f} MB")
    yield _row("    / raw vectors", won, lambda run, point: f"{run['memory_mb']['total'] / raw_mb:.2f}")
    yield _row("  its library, apart", won, lambda run, point: f"{run['library_mb']['total']:,.0f} MB")
    yield _row("  on disk", won, lambda run, point: f"{run['disk_mb']:,.0f} MB")


def _details(won: dict[str, list[Winner | None]]) -> Iterator[str]:
    yield ""
    for kind, by_target in won.items():
        for target, found in zip(TARGETS, by_target, strict=True):
            if found:
                run, point = found
                chosen = {**run["which"], **point["setting"]}
                settings = ", ".join(f"{name}={value}" for name, value in chosen.items()) or "as published"
                yield f"{TITLES[kind]} at {target:.2f}: {settings}"
    for found in won.get("ours", [])[:1]:
        if found:
            steps = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in found[0]["steps_s"].items())
            yield f"Shelfmark's build: {steps}; {json.dumps(found[0]['config'])}"
            if found[0]["refused"]:
                yield found[0]["refused"]


def million_lines(record: Record | None) -> Iterator[str]:
    """The part "million"."""
    if record is None:
        return
    build, peak, (point,) = record["build"], record["peak_mb"], record["points"]
    dimensions = record["data"]["dimensions"]
    yield ""
    yield f"{record['data']['rows']:,} vectors of {dimensions:,} float32, built within {record['limit_gib']:g} GiB"
    yield _line("  build", [f"{build['build_s']:.0f} s"])
    yield _line("  tuning and measuring", [f"{build['tune_s']:.0f} s"])
    yield _line("  peak memory, anonymous", [f"{peak['anonymous'] / 1024**3 * 1e6:.2f} GiB"])
    yield _line("  peak memory, with pages of files", [f"{peak['total'] / 1024**3 * 1e6:.2f} GiB"])
    yield _line("  shards", [f"{build['shards']}"])
    yield _line("  on disk", [f"{build['disk_mb']:,.0f} MB"])
    yield _line("  recall@10", [f"{point['recall']:.3f}"])
    yield _line("  recall@10 by the index's own count", [f"{build['own_recall']:.3f}"])
    yield _line("  queries/s", [f"{point['queries_per_s']:,.0f}"])
    yield _line("  batches of 256", [f"{point['batch_queries_per_s']:,.0f}"])
    yield _line("  resident memory when searched", [f"{record['memory_mb']['total']:,.0f} MB"])
    yield _line("    anonymous", [f"{record['memory_mb']['anonymous']:,.0f} MB"])
