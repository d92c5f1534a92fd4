"""The parts that measure throughput and latency: the load generator alone, vectors, pictures."""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.serve_cases import run_case
from benchmarks.serve_client import Bodies, Client, Load, on_cores
from benchmarks.serve_data import FORMS, picture_bodies, vector_bodies
from benchmarks.serve_requests import rate_per_s
from benchmarks.serve_server import Server, cpu_s, serving

VECTOR_USERS = (1, 4, 16, 64)
PICTURE_USERS = (1, 8, 32)
NO_PICTURES = "--no_pictures"


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """Where and how long is measured.

    Attributes:
        folder: Has what `make_store` made; logs go there.
        seconds: Of every measurement.
        turns: What is compared takes turns, this often; medians count.
        server_cores, client_cores: Of vector queries, where the load generator would take much of the server's time.
        all_cores: Of picture queries, where it takes little.
    """

    folder: Path
    seconds: float
    turns: int
    server_cores: frozenset[int]
    client_cores: frozenset[int]
    all_cores: frozenset[int]

    @property
    def store(self) -> Path:
        """The store's folder."""
        return self.folder / "store"

    def vector_server(self, everywhere: bool = False) -> contextlib.AbstractContextManager[Server]:
        """A server without an encoder, on its cores or on all."""
        cores = self.all_cores if everywhere else self.server_cores
        return serving(self.store, self.folder / "server-vectors.log", set(cores), [NO_PICTURES])

    def picture_server(self) -> contextlib.AbstractContextManager[Server]:
        """A server with its encoder, on all cores."""
        return serving(self.store, self.folder / "server-pictures.log", set(self.all_cores))

    def vector_client(self) -> Client:
        """A load generator beside the server's cores."""
        return Client(set(self.client_cores))

    def picture_client(self) -> Client:
        """A load generator on all cores."""
        return Client(set(self.all_cores))


def measure_nothing(setting: Setting) -> dict[str, Any]:
    """The load generator against a server that does nothing, on the cores of vector queries."""
    client = setting.vector_client()
    with _doing_nothing(set(setting.server_cores)) as (pid, url):
        points = [
            _point(client, pid, url, vector_bodies(setting.folder, *form), users, setting.seconds)
            for form in FORMS
            for users in VECTOR_USERS
        ]
    return {"points": points}


@contextlib.contextmanager
def _doing_nothing(cores: set[int]) -> Iterator[tuple[int, str]]:
    with on_cores(cores):
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.serve_nothing"], stdout=subprocess.PIPE, text=True
        )
    try:
        assert process.stdout is not None  # it is a pipe
        yield process.pid, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


def measure_vectors(setting: Setting) -> dict[str, Any]:
    """The searcher alone against the server, on the same cores."""
    client, turns = setting.vector_client(), []
    with setting.vector_server() as server:
        everything = [vector_bodies(setting.folder, *form) for form in FORMS]
        for bodies in everything:
            server.search(bodies)
        for _ in range(setting.turns):
            bare = run_case("search", set(setting.server_cores), setting.folder, seconds=setting.seconds)
            points = [
                _point(client, server.pid, server.search_url, bodies, users, setting.seconds)
                for bodies in everything
                for users in VECTOR_USERS
            ]
            turns.append({"bare": bare, "points": points})
    return summarise(turns)


def measure_pictures(setting: Setting) -> dict[str, Any]:
    """The encoder alone against the server, and what the server adds to a single request."""
    client, turns = setting.picture_client(), []
    bodies = picture_bodies(setting.folder)
    with setting.picture_server() as server:
        server.search(bodies)
        for _ in range(setting.turns):
            bare = run_case("encode", set(setting.all_cores), setting.folder, seconds=setting.seconds)
            points = [
                _point(client, server.pid, server.search_url, bodies, users, setting.seconds) for users in PICTURE_USERS
            ]
            turns.append({"bare": bare, "points": points})
        rounds = max(1, round(setting.seconds))
        added = run_case("overhead", set(setting.all_cores), setting.folder, url=server.url, rounds=rounds)
    return {**summarise(turns), "overhead": added}


def _point(client: Client, pid: int, url: str, bodies: Bodies, users: int, seconds: float) -> dict[str, Any]:
    used_s = -cpu_s(pid)
    requests, window = client.measure(url, bodies, Load(users, seconds))
    used_s += cpu_s(pid)
    measured = requests.ended_in(window)
    return {
        "encoding": bodies.encoding,
        "queries": bodies.queries,
        "users": users,
        "per_s": bodies.queries * rate_per_s(requests, window),
        "cpu_ms": 1000 * used_s / (bodies.queries * len(requests)),
        "requests": len(measured),
        "errors": requests.errors,
        **{f"p{percent}_ms": measured.percentile_ms(percent) for percent in (50, 95, 99)},
    }


def summarise(turns: list[dict[str, Any]]) -> dict[str, Any]:
    """One record of several turns: medians, sums of counts, and the medians over turns of server / bare.

    "ratio" is by the clock, "cpu_ratio" by processor time, which others on the machine change little.

    Args:
        turns: Each has "bare" and "points", in the same order.
    """
    points = []
    for same in zip(*(turn["points"] for turn in turns), strict=True):
        point = dict(same[0])
        for name in ("per_s", "cpu_ms", "p50_ms", "p95_ms", "p99_ms"):
            point[name] = statistics.median(measured[name] for measured in same)
        for name in ("requests", "errors"):
            point[name] = sum(measured[name] for measured in same)
        compared = [(measured, turn["bare"]) for measured, turn in zip(same, turns, strict=True)]
        point["ratio"] = statistics.median(measured["per_s"] / bare["per_s"] for measured, bare in compared)
        point["cpu_ratio"] = statistics.median(bare["cpu_ms"] / measured["cpu_ms"] for measured, bare in compared)
        points.append(point)
    bare = {name: statistics.median(turn["bare"][name] for turn in turns) for name in ("per_s", "cpu_ms")}
    return {"bare": {**turns[0]["bare"], **bare}, "points": points}
