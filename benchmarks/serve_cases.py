"""What the server is compared with, in a process of its own: prints one line of JSON.

python -m benchmarks.serve_cases CASE '{"folder": ..., ...}'
"""

from __future__ import annotations

import http.client
import json
import os
import statistics
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.index_data import Questions
from benchmarks.serve_client import on_cores
from benchmarks.serve_data import K, picture_paths
from benchmarks.serve_requests import OK
from index_builder.search.searcher import Searcher
from pipelines.processor import choose_blas_kernels
from store.location import Store

_WARM_UP, _ROUND = 3, 10


def search(folder: str, seconds: float) -> dict[str, Any]:
    """The searcher alone, one query at a time from a thread for each core it may use: queries and processor time."""
    searcher = Searcher.open(str(Path(folder) / "store"))
    vectors = Questions.load(Path(folder)).vectors
    threads = len(os.sched_getaffinity(0))
    for vector in vectors[:100]:
        searcher.search(vector, K)
    done = [0] * threads
    start_s, used_s = time.perf_counter(), -time.process_time()

    def ask(thread: int) -> None:
        while time.perf_counter() - start_s < seconds:
            searcher.search(vectors[(done[thread] * threads + thread) % len(vectors)], K)
            done[thread] += 1

    workers = [threading.Thread(target=ask, args=(thread,)) for thread in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return {"threads": threads, **_rate(sum(done), time.perf_counter() - start_s, used_s + time.process_time())}


def _rate(done: int, took_s: float, used_s: float) -> dict[str, float]:
    return {"per_s": done / took_s, "cpu_ms": 1000 * used_s / done}


def encode(folder: str, seconds: float) -> dict[str, Any]:
    """The encoder alone on whole batches of pixels in memory: pictures and processor time."""
    decode, encoder, _ = _query_path(Path(folder))
    paths = picture_paths(Path(folder))
    batch = np.stack([decode(paths[number % len(paths)].read_bytes()) for number in range(encoder.batch_size)])
    encoder.encode(batch)
    done, start_s, used_s = 0, time.perf_counter(), -time.process_time()
    while time.perf_counter() - start_s < seconds:
        encoder.encode(batch)
        done += len(batch)
    rate = _rate(done, time.perf_counter() - start_s, used_s + time.process_time())
    return {"batch_size": encoder.batch_size, **rate}


def overhead(folder: str, url: str, rounds: int) -> dict[str, Any]:
    """Pictures one at a time through the query path in this process and through the server, a few by turns.

    Not one by turns: each would find the processor's caches full of the other's weights.

    Returns:
        "direct_ms" and "server_ms", the medians, and the "requests" in each.
    """
    decode, encoder, searcher = _query_path(Path(folder))
    address = urllib.parse.urlsplit(url)
    assert address.hostname is not None  # the benchmark's own server
    connection = http.client.HTTPConnection(address.hostname, address.port)
    pictures = [path.read_bytes() for path in picture_paths(Path(folder))]

    def ask_directly(picture: bytes) -> None:
        searcher.search(encoder.encode(decode(picture)[None]), K).hits()

    def ask_server(picture: bytes) -> None:
        connection.request("POST", "/v1/search", picture, {"Content-Type": "image/jpeg"})
        answer = connection.getresponse()
        said = answer.read()
        if answer.status != OK:
            raise SystemExit(f"expected an answer from {url}, found {answer.status}: {said[:500]!r}")

    direct_ms: list[float] = []
    server_ms: list[float] = []
    for number in range(rounds):
        for ask, took_ms in ((ask_directly, direct_ms), (ask_server, server_ms)):
            times_ms = [_took_ms(ask, pictures[(number + each) % len(pictures)]) for each in range(_WARM_UP + _ROUND)]
            took_ms.extend(times_ms[_WARM_UP:])
    return {
        "direct_ms": statistics.median(direct_ms),
        "server_ms": statistics.median(server_ms),
        "requests": len(server_ms),
    }


def _took_ms(ask: Callable[[bytes], None], picture: bytes) -> float:
    start_s = time.perf_counter()
    ask(picture)
    return 1000 * (time.perf_counter() - start_s)


def _query_path(folder: Path) -> tuple[Callable[[bytes], Any], Any, Searcher]:
    """What decodes, what encodes and what searches."""
    from encoder.decode import DecodeOptions, decode_picture
    from encoder.source import load_checked, open_source

    store = Store(str(folder / "store"))
    searcher = Searcher.open(store.uri)
    source = open_source(store, searcher.manifest.encoder)
    options = DecodeOptions(source.image_size, source.spec.resize)
    return lambda picture: decode_picture(picture, options).pixels, load_checked(source), searcher


def run_case(case: str, cores: set[int], folder: Path, **options: Any) -> dict[str, Any]:
    """One case in a fresh process that may only run on these cores.

    Raises:
        SystemExit: It failed, with what it said.
    """
    command = [sys.executable, "-m", "benchmarks.serve_cases", case, json.dumps({"folder": str(folder), **options})]
    with on_cores(cores):
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


CASES: dict[str, Callable[..., dict[str, Any]]] = {"search": search, "encode": encode, "overhead": overhead}


def main(arguments: list[str]) -> None:
    """Runs one case."""
    choose_blas_kernels()
    case, options = arguments
    sys.stdout.write(json.dumps(CASES[case](**json.loads(options))) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
