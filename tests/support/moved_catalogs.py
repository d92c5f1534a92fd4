"""Small catalogs whose pictures move, and versions of them."""

from __future__ import annotations

import dataclasses

import numpy as np

from benchmarks.vectors import SyntheticCatalog
from index_builder.build.builder import build_index
from index_builder.build.request import BuildRequest
from store.location import Store
from store.parts import PartWriter
from store.schema import embedding_schema
from store.snapshot import Counts, SnapshotManifest, commit, snapshot_folder
from tests.support.versions import day_at, name_of

DIMENSION, ROWS, K = 32, 1_200, 10


@dataclasses.dataclass(frozen=True)
class MovedCatalog:
    """Pictures by id: their vectors, and what their bytes are."""

    ids: list[str]
    vectors: np.ndarray
    digests: list[str]

    def only(self, keep: np.ndarray) -> MovedCatalog:
        rows = np.arange(len(self.ids))[keep]
        return MovedCatalog([self.ids[row] for row in rows], self.vectors[rows], [self.digests[row] for row in rows])


def drawn(rows: int = ROWS, seed: int = 1) -> MovedCatalog:
    catalog = SyntheticCatalog.draw(rows, seed, DIMENSION)
    ids = [f"image-{row:05d}" for row in range(rows)]
    return MovedCatalog(ids, catalog.chunk(0)[:rows], [f"digest of {name}" for name in ids])


def add_snapshot(store: Store, day: int, catalog: MovedCatalog, encoder: str = "one", part_rows: int = 500) -> str:
    snapshot = name_of(day)
    files = []
    for number, start in enumerate(range(0, len(catalog.ids), part_rows)):
        schema = embedding_schema(catalog.vectors.shape[1], encoder)
        writer = PartWriter(store, snapshot_folder(snapshot), f"part-{number:05d}.parquet", schema)
        for row in range(start, min(start + part_rows, len(catalog.ids))):
            writer.add(
                {
                    "image_id": catalog.ids[row],
                    "item_id": catalog.ids[row],
                    "image_uri": f"{catalog.ids[row]}.jpg",
                    "source_version": None,
                    "content_sha256": catalog.digests[row],
                    "width": 1,
                    "height": 1,
                    "attributes": [],
                    "embedding_norm": 1.0,
                    "embedding": catalog.vectors[row],
                }
            )
        part = writer.close()
        assert part is not None
        files.append(part)
    counts = Counts(len(catalog.ids), len(catalog.ids), 0, 0)
    described = {"fingerprint": encoder, "embedding_dim": catalog.vectors.shape[1], "backbone": encoder}
    commit(
        store,
        SnapshotManifest(
            snapshot, day_at(day).isoformat(), "made up", None, described, counts, {}, tuple(files), {}, {}
        ),
    )
    return snapshot


def build(store: Store, snapshot: str, target: float = 0.9) -> str:
    return build_index(store, BuildRequest(snapshot=snapshot, target_recall=target, k=K)).version
