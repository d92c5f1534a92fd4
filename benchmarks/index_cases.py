"""One step of the benchmark in a process of its own: prints one line of JSON.

python -m benchmarks.index_cases CASE '{"folder": ..., ...}'
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.index_contestants import CONTESTANTS, Contestant, Shelfmark, build_faiss, build_hnsw, build_ours
from benchmarks.index_data import Questions, prepare
from benchmarks.index_measures import (
    BATCH,
    RowArray,
    growth_mb,
    hold_to_one_core,
    queries_per_s,
    recall,
    resident_mb,
)
from benchmarks.vectors import SELECTIVITY, FloatArray
from store.errors import StoreError, UserError

TARGETS = (0.90, 0.95, 0.99)
_LOWEST_TIMED_RECALL = 0.88
_HIGH_ENOUGH = 0.998
_CONTENDERS = 2
_LIBRARIES = {"ours": "scann.scann_ops.py.scann_ops_pybind", "faiss": "faiss", "hnsw": "hnswlib"}


def data(folder: str, **options: Any) -> dict[str, Any]:
    """As `prepare`."""
    return prepare(Path(folder), **options)


def search(folder: str, kind: str, which: dict[str, Any], settings: list[dict[str, Any]]) -> dict[str, Any]:
    """Recall and speed of a built index at each setting, and the memory it holds once it has answered them all.

    All settings run one round; the quickest few that reach a target are measured again at length.

    Returns:
        "library_mb" and "memory_mb", how memory grew by importing the library and by the index; and "points", of which
        those measured at length have "batch_queries_per_s".
    """
    questions = Questions.load(Path(folder))
    hold_to_one_core()
    empty = resident_mb()
    importlib.import_module(_LIBRARIES[kind])
    before = resident_mb()
    contestant: Contestant = CONTESTANTS[kind](Path(folder), **which)
    points = list(_screen(contestant, questions, settings))
    for point in _contenders(points):
        contestant.use(point["setting"])
        point["queries_per_s"] = queries_per_s(contestant.search, questions.vectors)
        point["batch_queries_per_s"] = queries_per_s(contestant.search, questions.vectors, BATCH)
    return {"library_mb": growth_mb(empty, before), "memory_mb": growth_mb(before, resident_mb()), "points": points}


def _screen(contestant: Contestant, questions: Questions, settings: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    enough: list[dict[str, Any]] = []
    for setting in settings:
        if any(all(setting[name] >= least[name] for name in least) for least in enough):
            continue  # it works harder than a setting that already found all but everything
        contestant.use(setting)
        rows, _ = contestant.search(questions.vectors)
        found = recall(contestant.catalog_rows(rows), questions, questions.unfiltered)
        if found >= _HIGH_ENOUGH:
            enough.append(setting)
        timed = found >= _LOWEST_TIMED_RECALL or len(settings) == 1
        rate = queries_per_s(contestant.search, questions.vectors, rounds=1) if timed else None
        yield {"setting": setting, "recall": found, "queries_per_s": rate}


def _contenders(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if len(points) == 1:
        return points
    chosen: list[dict[str, Any]] = []
    for target in TARGETS:
        reached = sorted((p for p in points if p["recall"] >= target), key=lambda p: -p["queries_per_s"])
        chosen += [point for point in reached[:_CONTENDERS] if point not in chosen]
    return chosen


def filters(folder: str) -> dict[str, Any]:
    """Recall and speed of Shelfmark's published setting where only some rows may be answers."""
    questions = Questions.load(Path(folder))
    hold_to_one_core()
    contestant = Shelfmark(Path(folder))
    results = {}
    for name in SELECTIVITY:
        where = {name: "yes"}

        def ask(queries: FloatArray, where: dict[str, str] = where) -> tuple[RowArray, FloatArray]:
            return contestant.search(queries, where)

        found = contestant.catalog_rows(ask(questions.vectors)[0])
        results[name] = {
            "recall": recall(found, questions, questions.truth[name]),
            "queries_per_s": queries_per_s(ask, questions.vectors),
        }
    return results


CASES: dict[str, Callable[..., dict[str, Any]]] = {
    "data": data,
    "build_ours": build_ours,
    "build_faiss": build_faiss,
    "build_hnsw": build_hnsw,
    "search": search,
    "filters": filters,
}


def main(arguments: list[str]) -> None:
    """Runs one case.

    Raises:
        SystemExit: Shelfmark refused, with what it said.
    """
    case, options = arguments
    try:
        result = CASES[case](**json.loads(options))
    except (UserError, StoreError) as error:
        raise SystemExit(str(error)) from error
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
