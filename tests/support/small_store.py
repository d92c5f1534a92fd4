"""A store with a real snapshot in it: drawn pictures, a small untrained model."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from encoder.decode import DecodeOptions
from fetch.fetcher import FetchOptions
from fetch.policy import policy_for
from index_builder.build.build_index import IndexRequest, build_index
from pipelines import embed
from pipelines.beam_flags import parse_beam_flags
from samples.catalog import draw_catalog
from store.location import Store
from store.snapshot import SnapshotManifest
from transforms.catalog import find_catalog
from transforms.embeddings import EmbedOptions
from transforms.progress import ProgressFile
from transforms.snapshot import SnapshotRequest

ENCODER = embed.EncoderRequest("mobilenetv3small", weights="random:3", precision="float32", image_size=64)


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
    store = Store(str(folder / "store"))
    source, _ = embed.prepare_encoder(store, ENCODER)
    snapshot, now = embed.started_now()
    catalog = find_catalog(str(table))
    progress = folder / "progress"
    progress.touch()
    options = EmbedOptions(
        catalog.base,
        DecodeOptions(source.image_size, ENCODER.resize),
        FetchOptions(),
        policy_for(catalog.base),
        ProgressFile(str(progress)),
    )
    request = SnapshotRequest(snapshot, str(table), now.isoformat(), max_reject_ratio=0.0)
    manifest = embed.embed(catalog, source, store, request, options, parse_beam_flags([]))
    return SmallStore(table, store.uri, manifest)


def make_small_index(folder: Path, items: int, views: int) -> SmallStore:
    """The same with a published index of it."""
    small = make_small_store(folder, items, views)
    build_index(Store(small.uri), IndexRequest(k=3, target_recall=0.5))
    return small
