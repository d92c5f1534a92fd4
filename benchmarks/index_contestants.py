"""The contestants: how each is built, loaded and asked.

Shelfmark's steps end where its users' would: a snapshot in, a searcher out. FAISS and hnswlib get an array of
the vectors.
"""

from __future__ import annotations

import importlib
import shutil
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.index_data import K
from benchmarks.index_measures import RowArray
from benchmarks.vectors import FloatArray, row_of
from store.measured import Recall

HNSW_EF_CONSTRUCTION = 200
_FAISS_TRAINING_ROWS = 50_000
_SQ8_TRAINING_ROWS = 20_000
_PCA_TRAINING_ROWS_PER_DIMENSION = 10


class Contestant(Protocol):
    """An index that has been loaded."""

    def use(self, setting: dict[str, Any]) -> None:
        """Takes the setting of a search, such as how many leaves it visits."""

    def search(self, queries: FloatArray) -> tuple[RowArray, FloatArray]:
        """Rows in the contestant's own numbering int64[m, K + 1], and their cosines float32[m, K + 1]."""

    def catalog_rows(self, found: RowArray) -> RowArray:
        """The same rows as the snapshot counts them."""


class Shelfmark:
    """The published index of a store, or the newest one under its target."""

    def __init__(self, folder: Path) -> None:
        from index_builder.search.searcher import Searcher
        from store.index import list_versions
        from store.location import Store

        store = Store(str(folder / "store"))
        self._opened = Searcher.open(store.uri, list_versions(store)[-1])
        self._searcher = self._opened

    def use(self, setting: dict[str, Any]) -> None:
        """Leaves and candidates; none for the setting that the index was published with."""
        self._searcher = self._opened.with_settings(**setting) if setting else self._opened

    def search(self, queries: FloatArray, where: dict[str, str] | None = None) -> tuple[RowArray, FloatArray]:
        """As Contestant, among the rows whose attributes are `where`."""
        matches = self._searcher.search(queries, K + 1, where=where)
        return matches.rows, matches.scores

    def catalog_rows(self, found: RowArray) -> RowArray:
        """As Contestant, by image_id: the index may order rows as it likes."""
        rows, place = np.unique(found, return_inverse=True)
        named = [row_of(self._opened.rows.image_id(int(row))) if row >= 0 else -1 for row in rows]
        return np.array(named, np.int64)[place].reshape(found.shape)


class Faiss:
    """A compressed index whose best candidates are ranked again by the whole vectors."""

    def __init__(self, folder: Path, build: str, refine: str) -> None:
        faiss = importlib.import_module("faiss")
        faiss.omp_set_num_threads(1)
        self._base = faiss.read_index(str(folder / faiss_file(build)))
        self._whole = faiss.read_index(str(folder / faiss_file(refine)))
        self._lists = faiss.extract_index_ivf(self._base)
        self._index = faiss.IndexRefine(self._base, self._whole)

    def use(self, setting: dict[str, Any]) -> None:
        """Lists visited, and candidates ranked again for each neighbour asked for."""
        self._lists.nprobe = setting["nprobe"]
        self._index.k_factor = setting["k_factor"]

    def search(self, queries: FloatArray) -> tuple[RowArray, FloatArray]:
        """As Contestant."""
        squares, rows = self._index.search(queries, K + 1)
        return rows, 1 - squares / 2

    def catalog_rows(self, found: RowArray) -> RowArray:
        """As Contestant."""
        return found


class Hnsw:
    """The graph of hnswlib, over the whole vectors."""

    def __init__(self, folder: Path, m: int) -> None:
        hnswlib = importlib.import_module("hnswlib")
        self._index = hnswlib.Index("ip", np.load(folder / "vectors.npy", mmap_mode="r").shape[1])
        self._index.load_index(str(folder / hnsw_file(m)))
        self._index.set_num_threads(1)

    def use(self, setting: dict[str, Any]) -> None:
        """How many candidates a search keeps."""
        self._index.set_ef(setting["ef"])

    def search(self, queries: FloatArray) -> tuple[RowArray, FloatArray]:
        """As Contestant."""
        rows, distances = self._index.knn_query(queries, K + 1)
        return rows.astype(np.int64), 1 - distances

    def catalog_rows(self, found: RowArray) -> RowArray:
        """As Contestant."""
        return found


CONTESTANTS: dict[str, type[Shelfmark] | type[Faiss] | type[Hnsw]] = {
    "ours": Shelfmark,
    "faiss": Faiss,
    "hnsw": Hnsw,
}


def faiss_file(factory: str) -> str:
    """Where the index that a factory string describes lies."""
    return f"{factory.replace(',', '-')}.faiss"


def hnsw_file(m: int) -> str:
    """Where the graph with `m` links lies."""
    return f"m{m}.hnsw"


def build_ours(folder: str, target_recall: float, threads: int, memory_limit_gib: float = 0) -> dict[str, Any]:
    """Builds from the snapshot, replacing what was built; an index under its target is measured all the same."""
    from index_builder.build.builder import build_index
    from index_builder.build.request import BuildRequest
    from store.errors import GateRefused
    from store.index import list_versions, read_index_manifest
    from store.location import Store

    store = Store(str(Path(folder) / "store"))
    shutil.rmtree(Path(folder) / "store" / "indexes", ignore_errors=True)
    refused = None
    limit = round(memory_limit_gib * 2**30) or None
    start_s = time.perf_counter()
    try:
        build_index(store, BuildRequest(target_recall=target_recall, memory_limit_bytes=limit, workers=threads))
    except GateRefused as error:
        refused = str(error)
    seconds = time.perf_counter() - start_s
    manifest = read_index_manifest(store, list_versions(store)[-1])
    steps_s = _build_steps(manifest.timing, manifest.config.dimensions)
    return {
        "build_s": sum(steps_s.values()),
        "steps_s": steps_s,
        "tune_s": seconds - sum(steps_s.values()),
        "disk_mb": sum(file.bytes for file in manifest.files) / 1e6,
        "config": {name: value for name, value in manifest.config.to_dict().items() if name != "plan"},
        "shards": len(manifest.shards),
        "own_recall": manifest.recall.measured,
        "refused": refused,
        "settings": _tried_settings(manifest.recall, manifest.config.dimensions),
    }


def _build_steps(timing: dict[str, float], dimensions: int | None) -> dict[str, float]:
    """Seconds of what makes the index itself; the rest chose and measured, trees of other dimensions included."""
    steps = {"sample": "sample", "read": "read", "projection": "projection", f"train_{dimensions}": "train"}
    steps |= {"train": "save", "shards": "further shards"}
    return {step: timing[f"{name}_s"] for name, step in steps.items() if f"{name}_s" in timing}


def _tried_settings(recall: Recall, dimensions: int | None) -> list[dict[str, int]]:
    """Every setting that was tried with the dimensions that the index has, the least work first."""
    names = ("leaves_to_search", "first_candidates", "candidates")
    tried = {
        tuple(getattr(trial, name) for name in names)
        for trial in recall.trials or recall.curve or ()
        if trial.dimensions == dimensions and trial.leaves_to_search is not None
    }
    return [dict(zip(names, values, strict=True)) for values in sorted(tried)]


def build_faiss(folder: str, factory: str, threads: int) -> dict[str, Any]:
    """Trains and fills an index; for whole vectors ("Flat", "SQ8") too."""
    faiss = importlib.import_module("faiss")
    faiss.omp_set_num_threads(threads)
    vectors = np.load(Path(folder) / "vectors.npy")
    samples = _SQ8_TRAINING_ROWS if factory == "SQ8" else _FAISS_TRAINING_ROWS
    chosen = np.random.default_rng(0).choice(len(vectors), min(samples, len(vectors)), replace=False)
    start_s = time.perf_counter()
    index = faiss.index_factory(vectors.shape[1], factory, faiss.METRIC_L2)
    if factory.startswith("PCA"):
        faiss.downcast_VectorTransform(index.chain.at(0)).max_points_per_d = _PCA_TRAINING_ROWS_PER_DIMENSION
    index.train(vectors[chosen])
    index.add(vectors)
    seconds = time.perf_counter() - start_s
    path = Path(folder) / faiss_file(factory)
    faiss.write_index(index, str(path))
    return {"build_s": seconds, "disk_mb": path.stat().st_size / 1e6}


def build_hnsw(folder: str, m: int, threads: int) -> dict[str, Any]:
    """Links all vectors."""
    hnswlib = importlib.import_module("hnswlib")
    vectors = np.load(Path(folder) / "vectors.npy")
    index = hnswlib.Index("ip", vectors.shape[1])
    start_s = time.perf_counter()
    index.init_index(len(vectors), M=m, ef_construction=HNSW_EF_CONSTRUCTION)
    index.add_items(vectors, num_threads=threads)
    seconds = time.perf_counter() - start_s
    path = Path(folder) / hnsw_file(m)
    index.save_index(str(path))
    return {"build_s": seconds, "disk_mb": path.stat().st_size / 1e6}
