"""The parts that put the server under strain: versions swapped under a steady load, and more than it can answer."""

from __future__ import annotations

import time
from typing import Any, Protocol

import numpy as np

from benchmarks.index_measures import PeakMemory
from benchmarks.serve_client import Bodies, Client, Load
from benchmarks.serve_data import other_version, picture_bodies, vector_bodies
from benchmarks.serve_rates import Setting
from benchmarks.serve_requests import OK, REFUSALS, Requests, Window, rate_per_s
from benchmarks.serve_server import Server
from store.location import Store
from store.publication import publish, read_published

SWAPS = 20
STEADY_SHARE = 0.4
OVERLOAD_FACTOR = 10
RECOVERY_S = 5.0
CAPACITY_USERS = {"vectors": 16, "pictures": 32}

_STEADY_USERS = 64
# More than may wait in the server, or it would have nothing to refuse.
_OVERLOAD_USERS = {"vectors": 1500, "pictures": 300}
_SETTLE_S = 3.0
_PAUSE_S = {"vectors": 1.5, "pictures": 4.0}
_LONGER_THAN_ANY_RUN_S = 3600.0


def measure_swaps(setting: Setting) -> dict[str, Any]:
    """Both kinds of query, each under a steady load of its own while versions change."""
    store = Store(str(setting.store))
    record = {}
    # On all cores, as it is deployed: a version is opened on one while requests are answered on another.
    with setting.vector_server(everywhere=True) as server:
        bodies = vector_bodies(setting.folder, "numbers", 1)
        record["vectors"] = _swap(server, setting.picture_client(), bodies, store, setting.seconds, "vectors")
    with setting.picture_server() as server:
        bodies = picture_bodies(setting.folder)
        record["pictures"] = _swap(server, setting.picture_client(), bodies, store, setting.seconds, "pictures")
    return record


def _swap(server: Server, client: Client, bodies: Bodies, store: Store, seconds: float, kind: str) -> dict[str, Any]:
    capacity_per_s = _capacity(server, client, bodies, seconds, kind)
    load = Load(_STEADY_USERS, _LONGER_THAN_ANY_RUN_S, max(1, round(STEADY_SHARE * capacity_per_s)))
    windows, memory_mb = [], [server.memory_mb()]
    with client.running(server.search_url, bodies, load, stop=True) as answered:
        time.sleep(_SETTLE_S)
        began_s = time.time()
        for _ in range(SWAPS):
            time.sleep(_PAUSE_S[kind])
            windows.append(swap_once(server, store))
            memory_mb.append(server.memory_mb())
        time.sleep(_PAUSE_S[kind])
        whole = Window(began_s, time.time())
    record = swap_figures(answered.get().ended_in(whole), windows)
    memory_mb.append(server.memory_mb())
    return {"capacity_per_s": capacity_per_s, "offered_per_s": load.rate_per_s, **record, "memory_mb": memory_mb}


class Swapping(Protocol):
    """What moves to the published version."""

    def reload(self) -> str:
        """Looks at what is published; the version that answers now."""
        ...

    def version(self) -> str:
        """The version that answers."""
        ...


def swap_once(server: Swapping, store: Store) -> Window:
    """Publishes the other version and has the server move to it.

    Returns:
        From before it was published until the server said that it answers from it.

    Raises:
        RuntimeError: The server answers from another.
    """
    wanted, began_s = other_version(store), time.time()
    publish(store, wanted, over=read_published(store), by="index")
    told = server.reload()
    ended_s = time.time()
    found = {told, server.version()}
    if found != {wanted}:
        raise RuntimeError(f"reload: expected {wanted}, found {' and '.join(sorted(found))}")
    return Window(began_s, ended_s)


def swap_figures(requests: Requests, windows: list[Window]) -> dict[str, Any]:
    """Compares the requests that were under way in a swap with those that were not."""
    within = requests.overlapping(windows)
    during, outside = requests.where(within), requests.where(~within)
    return {
        "swaps": len(windows),
        "swap_s": float(np.median([window.length_s for window in windows])),
        "longest_swap_s": max(window.length_s for window in windows),
        "requests": len(requests),
        "errors": requests.errors,
        "not_offered": requests.not_offered,
        "during": len(during),
        "during_p99_ms": during.percentile_ms(99),
        "outside_p99_ms": outside.percentile_ms(99),
        "during_p50_ms": during.percentile_ms(50),
        "outside_p50_ms": outside.percentile_ms(50),
    }


def measure_overload(setting: Setting) -> dict[str, Any]:
    """Both kinds of query: as many as are answered, many times that, and as many as are answered after it."""
    record = {}
    with setting.picture_server() as server:
        bodies = picture_bodies(setting.folder)
        record["pictures"] = _overload(server, setting.picture_client(), bodies, setting.seconds, "pictures")
    with setting.vector_server() as server:
        bodies = vector_bodies(setting.folder, "numbers", 1)
        record["vectors"] = _overload(server, setting.vector_client(), bodies, setting.seconds, "vectors")
    return record


def _overload(server: Server, client: Client, bodies: Bodies, seconds: float, kind: str) -> dict[str, Any]:
    before_per_s = _capacity(server, client, bodies, seconds, kind)
    calm_mb = server.memory_mb()
    load = Load(_OVERLOAD_USERS[kind], 3 * seconds, round(OVERLOAD_FACTOR * before_per_s))
    with PeakMemory(server.pid) as memory:
        requests, window = client.measure(server.search_url, bodies, load, warm_up_s=0)
    time.sleep(RECOVERY_S)
    after_per_s = _capacity(server, client, bodies, seconds, kind, warm_up_s=0)
    return {
        "before_per_s": before_per_s,
        "after_per_s": after_per_s,
        "asked_per_s": load.rate_per_s,
        **overload_figures(requests, window),
        "memory_mb": {"calm": calm_mb, "peak": memory.peak_mb, "after": server.memory_mb()},
    }


def overload_figures(requests: Requests, window: Window) -> dict[str, Any]:
    """What came back while more was asked than can be answered."""
    refused, answered = requests.with_status(*REFUSALS), requests.with_status(OK)
    return {
        "offered_per_s": len(requests) / window.length_s,
        "not_offered": requests.not_offered,
        "by_status": requests.by_status(),
        "unexpected": len(requests) - len(refused) - len(answered),
        "unannounced": requests.unannounced,
        "answered_per_s": rate_per_s(requests, window),
        "answered_p99_ms": answered.percentile_ms(99),
        "refused_p50_ms": refused.percentile_ms(50),
        "refused_p99_ms": refused.percentile_ms(99),
    }


def _capacity(
    server: Server, client: Client, bodies: Bodies, seconds: float, kind: str, warm_up_s: float | None = None
) -> float:
    """Good answers per second to users who wait for them.

    Raises:
        RuntimeError: There were other answers.
    """
    load = Load(CAPACITY_USERS[kind], seconds)
    given = {} if warm_up_s is None else {"warm_up_s": warm_up_s}
    requests, window = client.measure(server.search_url, bodies, load, **given)
    if requests.errors:
        raise RuntimeError(f"{load.users} users: expected {OK} only, found {requests.by_status()}")
    return rate_per_s(requests, window)
