"""A store with a real snapshot in it: drawn pictures, a small untrained model."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from index_builder.build.builder import build_index
from index_builder.build.request import BuildRequest
from pipelines.embed import embed
from pipelines.requests import EmbedRequest
from samples.catalog import draw_catalog
from store.location import Store
from store.snapshot import SnapshotManifest


@dataclasses.dataclass(frozen=True)
class SmallStore:
    """Where the catalog and the store lie, and the snapshot's manifest."""

    catalog: Path
    uri: str
    manifest: SnapshotManifest

    @property
    def encoder(self) -> dict[str, Any]:
        return self.manifest.encoder

    def weights_file(self) -> Path:
        return Path(self.uri, "weights", f"{self.encoder['weights_sha256']}.weights.h5")


def make_small_store(folder: Path, items: int, views: int) -> SmallStore:
    """Draws a catalog and embeds it, in this process."""
    table = draw_catalog(folder / "catalog", items=items, views=views, seed=5, processes=1)
    request = EmbedRequest(
        table,
        folder / "store",
        backbone="mobilenetv3small",
        weights="random:3",
        precision="float32",
        image_size=64,
        max_reject_ratio=0.0,
    )
    return SmallStore(table, str(folder / "store"), embed(request).manifest)


def make_small_index(folder: Path, items: int, views: int) -> SmallStore:
    """The same with a published index of it."""
    small = make_small_store(folder, items, views)
    build_index(Store(small.uri), BuildRequest(k=3, target_recall=0.5))
    return small
