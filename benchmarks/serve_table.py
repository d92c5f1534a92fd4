"""The tables of the server's benchmark, from the records that its parts keep."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

from benchmarks.serve_data import FORMS, SIDE_PX
from benchmarks.serve_rates import PICTURE_USERS
from benchmarks.serve_stress import OVERLOAD_FACTOR, RECOVERY_S, STEADY_SHARE

Record = dict[str, Any]

LEAST_VECTOR_RATIO = 0.5
LEAST_PICTURE_RATIO = 0.85
MOST_OVERHEAD_MS = 10.0
LEAST_SWAP_REQUESTS = 10_000
MOST_SWAP_P99_RATIO = 3.0
MOST_SWAP_GROWTH = 1.1
MOST_REFUSAL_P99_MS = 250.0
LEAST_OFFERED = 0.95 * OVERLOAD_FACTOR
LEAST_ANSWERED_SHARE = 0.8
LEAST_RECOVERED_SHARE = 0.9
MOST_OVERLOAD_GROWTH = 1.5

_KINDS = {"vectors": "vector queries", "pictures": "picture queries"}


@dataclasses.dataclass(frozen=True, slots=True)
class Goal:
    """A figure and what it has to be.

    Attributes:
        title: What it is.
        found: Measured; NaN, which meets nothing, where there was nothing to measure.
        limit: The least or the most that is wanted.
        at_least: Which of both.
    """

    title: str
    found: float
    limit: float
    at_least: bool

    @property
    def met(self) -> bool:
        """Whether it is what it has to be."""
        return self.found >= self.limit if self.at_least else self.found <= self.limit

    def line(self) -> str:
        """Of the table."""
        wanted = f"{'>=' if self.at_least else '<='} {_number(self.limit)}"
        verdict = "-" if math.isnan(self.found) else "met" if self.met else "MISSED"
        return f"{self.title:<64}{wanted:>12}{_number(self.found):>12}{verdict:>10}"


def _number(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:,.0f}" if value == round(value) or abs(value) >= 100 else f"{value:.2f}"


def goals(records: dict[str, Record | None]) -> Iterator[Goal]:
    """What the parts that were measured have to reach."""
    if vectors := records["vectors"]:
        for form in FORMS:
            alike = [point for point in vectors["points"] if (point["encoding"], point["queries"]) == form]
            encoding, queries = form
            what = f"{queries} vector{'s' * (queries > 1)} as {encoding} in a request"
            best = max(point["ratio"] for point in alike)
            yield Goal(f"vectors/s, {what} / searcher alone", best, LEAST_VECTOR_RATIO, True)
    if pictures := records["pictures"]:
        users = PICTURE_USERS[-1]
        ratio = next(point["ratio"] for point in pictures["points"] if point["users"] == users)
        yield Goal(f"pictures/s at {users} users / encoder alone", ratio, LEAST_PICTURE_RATIO, True)
        added_ms = pictures["overhead"]["server_ms"] - pictures["overhead"]["direct_ms"]
        yield Goal("one picture, added to decode + encode + search, p50 ms", added_ms, MOST_OVERHEAD_MS, False)
    for name, kind in _KINDS.items():
        if swaps := records["swaps"]:
            yield from _swap_goals(swaps[name], kind, counted=name == "vectors")
    for name, kind in _KINDS.items():
        if overload := records["overload"]:
            yield from _overload_goals(overload[name], kind, full=name == "pictures")


def _swap_goals(swap: Record, kind: str, counted: bool) -> Iterator[Goal]:
    title = f"{kind}, {swap['swaps']} swaps"
    if counted:
        yield Goal(f"{title}: requests", swap["requests"], LEAST_SWAP_REQUESTS, True)
    yield Goal(f"{title}: requests without an answer", swap["errors"], 0, False)
    slower = swap["during_p99_ms"] / swap["outside_p99_ms"]
    yield Goal(f"{title}: p99 during / p99 outside", slower, MOST_SWAP_P99_RATIO, False)
    held_mb = [memory["anonymous"] for memory in swap["memory_mb"]]
    yield Goal(f"{title}: memory at the end / before", held_mb[-1] / held_mb[0], MOST_SWAP_GROWTH, False)


def _overload_goals(overload: Record, kind: str, full: bool) -> Iterator[Goal]:
    """`full`: the load generator can offer that much, and leaves the server its cores."""
    title = f"{kind}, overload"
    if full:
        yield Goal(f"{title}: offered / capacity", _share(overload, "offered_per_s"), LEAST_OFFERED, True)
        yield Goal(f"{title}: answered / capacity", _share(overload, "answered_per_s"), LEAST_ANSWERED_SHARE, True)
    yield Goal(f"{title}: answers but 200, 429, 503", overload["unexpected"], 0, False)
    yield Goal(f"{title}: refusals without Retry-After", overload["unannounced"], 0, False)
    yield Goal(f"{title}: refusals, p99 ms", overload["refused_p99_ms"], MOST_REFUSAL_P99_MS, False)
    after = f"{title}: capacity {RECOVERY_S:.0f} s later / before"
    yield Goal(after, _share(overload, "after_per_s"), LEAST_RECOVERED_SHARE, True)
    memory = overload["memory_mb"]
    grown = memory["peak"]["anonymous"] / memory["calm"]["anonymous"]
    yield Goal(f"{title}: peak memory / before", grown, MOST_OVERLOAD_GROWTH, False)


def _share(overload: Record, name: str) -> float:
    return float(overload[name] / overload["before_per_s"])


def table_lines(records: dict[str, Record | None]) -> Iterator[str]:
    """Everything that was measured, and what of it has a goal."""
    for name, title in (("nothing", "a server that does nothing"), ("vectors", "vectors"), ("pictures", "pictures")):
        if record := records[name]:
            yield from _rates(title, record)
    if vectors := records["vectors"]:
        bare = vectors["bare"]
        rate = f"{bare['per_s']:,.0f} vectors/s, {bare['cpu_ms']:.3f} ms of processor time each"
        yield f"searcher alone, {bare['threads']} threads: {rate}"
    if pictures := records["pictures"]:
        bare, added = pictures["bare"], pictures["overhead"]
        rate = f"{bare['per_s']:,.1f} pictures/s, {bare['cpu_ms']:.1f} ms of processor time each"
        yield f"encoder alone, batches of {bare['batch_size']}: {rate}"
        direct = f"decode + encode + search of one {SIDE_PX} px JPEG: {added['direct_ms']:.1f} ms"
        yield f"{direct}, by the server {added['server_ms']:.1f} ms (p50 of {added['requests']} each, by turns)"
    for name, kind in _KINDS.items():
        if swaps := records["swaps"]:
            yield from _swap_lines(swaps[name], kind)
    for name, kind in _KINDS.items():
        if overload := records["overload"]:
            yield from _overload_lines(overload[name], kind)
    yield ""
    yield f"{'':<64}{'wanted':>12}{'found':>12}"
    yield from (goal.line() for goal in goals(records))


def _rates(title: str, record: Record) -> Iterator[str]:
    headings = (
        "as",
        "in each",
        "users",
        "per s",
        "/ alone",
        "CPU ms",
        "/ alone",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "errors",
    )
    yield ""
    yield f"{title:<26}" + "".join(f"{heading:>10}" for heading in headings)
    for point in record["points"]:
        ratio, cpu_ratio = (f"{point[name]:.2f}" if name in point else "-" for name in ("ratio", "cpu_ratio"))
        delays = [f"{point[f'p{percent}_ms']:.1f}" for percent in (50, 95, 99)]
        rate, used = f"{point['per_s']:,.1f}", f"{point['cpu_ms']:.3f}"
        cells = [
            point["encoding"],
            point["queries"],
            point["users"],
            rate,
            ratio,
            used,
            cpu_ratio,
            *delays,
            point["errors"],
        ]
        yield " " * 26 + "".join(f"{cell:>10}" for cell in cells)


def _swap_lines(swap: Record, kind: str) -> Iterator[str]:
    yield ""
    yield (
        f"{kind}, {swap['swaps']} swaps at {swap['offered_per_s']:,}/s ({STEADY_SHARE:.0%} of capacity): "
        f"{swap['requests']:,} requests, {swap['during']:,} of them during a swap, {swap['errors']} errors"
    )
    for name in ("during", "outside"):
        yield f"  {name:<10}p50 {swap[f'{name}_p50_ms']:.1f} ms, p99 {swap[f'{name}_p99_ms']:.1f} ms"
    yield f"  a swap took {swap['swap_s']:.2f} s (median), {swap['longest_swap_s']:.2f} s at most"
    held_mb = [memory["anonymous"] for memory in swap["memory_mb"]]
    pages = " and ".join(f"{swap['memory_mb'][at]['file']:,.0f}" for at in (0, -1))
    shown = ", ".join(f"{held:,.0f}" for held in held_mb)
    yield f"  memory before, after each swap and at the end: {shown} MB; pages of files {pages} MB"


def _overload_lines(overload: Record, kind: str) -> Iterator[str]:
    yield ""
    yield (
        f"{kind}, overload: {overload['before_per_s']:,.1f}/s answered before, {overload['asked_per_s']:,}/s wanted, "
        f"{overload['offered_per_s']:,.1f}/s offered ({overload['not_offered']:,} not, for want of users)"
    )
    answers = ", ".join(f"{count:,} x {status}" for status, count in overload["by_status"].items())
    yield f"  {answers}; {overload['answered_per_s']:,.1f}/s answered"
    yield (
        f"  answers p99 {overload['answered_p99_ms']:,.0f} ms; refusals p50 {overload['refused_p50_ms']:,.1f} ms, "
        f"p99 {overload['refused_p99_ms']:,.1f} ms"
    )
    held = ", ".join(f"{name} {memory['anonymous']:,.0f} MB" for name, memory in overload["memory_mb"].items())
    yield f"  {overload['after_per_s']:,.1f}/s answered {RECOVERY_S:.0f} s after it; memory {held}"
