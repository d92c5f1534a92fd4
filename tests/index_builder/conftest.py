from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from benchmarks.vectors import SyntheticCatalog, write_snapshot
from index_builder.build import plan
from index_builder.build.builder import build_index
from index_builder.build.request import BuildRequest
from index_builder.search.searcher import Searcher
from store.index import IndexManifest
from store.location import Store

ROWS, DIMENSION = 7_500, 96


@dataclasses.dataclass(frozen=True)
class Indexed:
    store: Store
    vectors: np.ndarray
    manifest: IndexManifest

    def open(self) -> Searcher:
        return Searcher.open(self.store.uri)


def use_trees(patch: pytest.MonkeyPatch, shard_rows: int, queries: int = 1_000) -> None:
    """Has a catalog of a few thousand rows built as one of millions is."""
    patch.setattr(plan, "EXACT_BYTES", 0)
    patch.setattr(plan, "MAX_SHARD_ROWS", shard_rows)
    patch.setattr(plan, "DIMENSIONS", (24, 48))
    patch.setattr(plan, "QUERIES", queries)


@pytest.fixture(scope="session")
def snapshot_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(str(tmp_path_factory.mktemp("indexed") / "store"))
    write_snapshot(store, ROWS, seed=1, dimensions=DIMENSION)
    return store


@pytest.fixture(scope="session")
def vectors() -> np.ndarray:
    catalog = SyntheticCatalog.draw(ROWS, seed=1, dimensions=DIMENSION)
    return np.concatenate([catalog.chunk(number) for number in catalog.chunks])


@pytest.fixture(scope="session")
def sharded(snapshot_store: Store, vectors: np.ndarray) -> Indexed:
    """Three shards, two of them built in processes of their own."""
    with pytest.MonkeyPatch.context() as patch:
        use_trees(patch, ROWS // 3)
        manifest = build_index(snapshot_store, BuildRequest(target_recall=0.95))
    return Indexed(snapshot_store, vectors, manifest)


@pytest.fixture(scope="session")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Indexed:
    """A small catalog, compared one by one."""
    store = Store(str(tmp_path_factory.mktemp("exact") / "store"))
    write_snapshot(store, 300, seed=2, dimensions=32)
    catalog = SyntheticCatalog.draw(300, seed=2, dimensions=32)
    return Indexed(store, catalog.chunk(0), build_index(store, BuildRequest()))
