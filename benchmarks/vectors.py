"""Vectors with the spectrum, sparsity and clusters of a trained CNN's features, and snapshots of them.

A picture is a category, an item of it and a view of the item, each a Gaussian of its own; a rotation with a power-law
scale mixes them and a ReLU makes them sparse. Measured on the result: the eigenvalues of the covariance decay with an
exponent of about 1.09 between ranks 10 and 500, in line with what is reported for trained CNN features (alpha-ReQ,
Agrawal et al. 2022: about 1), and 63% of the values are zero, as after a ReLU.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from encoder.spec import EncoderSpec
from store.location import Store
from store.parts import PartFile, PartWriter
from store.schema import embedding_schema
from store.snapshot import Counts, SnapshotManifest, commit, new_name, snapshot_folder

FloatArray = npt.NDArray[np.float32]

CHUNK_ROWS = 4096
"""Vectors drawn at a time: 32 MiB of 2,048-d float32, and a few times that while they are drawn."""

VIEWS_PER_ITEM = 4
CATEGORIES = 500
SELECTIVITY = {"half": 0.5, "twentieth": 0.05, "thousandth": 0.001}
"""Attributes that are "yes" for this share of the items and "no" for the others, whatever they look like."""

_CATEGORY_WEIGHT, _ITEM_WEIGHT, _VIEW_WEIGHT = 0.55, 0.6, 0.58
_CATEGORY_ZIPF = 0.7
_SCALE_DECAY = 0.75  # of standard deviations: the variances before the ReLU decay with twice that
_RELU_AT = 0.3
_PARTS = 8
_MOST_ROWS_PER_PART = 65_536

# Which of the independent random streams of a seed.
_LAYOUT, _MIXING, _ITEM, _VIEW = range(4)


@dataclasses.dataclass(frozen=True, slots=True)
class SyntheticCatalog:
    """Everything but the vectors themselves, which are drawn a chunk at a time, each the same whenever it is drawn.

    Attributes:
        seed: Another seed is another catalog.
        item_of_row: int64[n], VIEWS_PER_ITEM rows for every item, in random order.
        category_of_item: int64[items]; sizes follow Zipf's law.
        flags: For each name in SELECTIVITY bool[items].
        category_vectors: float32[CATEGORIES, D].
        mixing: float32[D, D], a power-law scale followed by a rotation.
    """

    seed: int
    item_of_row: npt.NDArray[np.int64]
    category_of_item: npt.NDArray[np.int64]
    flags: dict[str, npt.NDArray[np.bool_]]
    category_vectors: FloatArray
    mixing: FloatArray

    @classmethod
    def draw(cls, rows: int, seed: int, dimensions: int = 2048) -> SyntheticCatalog:
        """Draws a catalog of `rows` pictures whose vectors have `dimensions` values."""
        rng = np.random.default_rng([seed, _LAYOUT])
        items = math.ceil(rows / VIEWS_PER_ITEM)
        sizes = np.arange(1, CATEGORIES + 1) ** -_CATEGORY_ZIPF
        item_of_row = rng.permutation(rows) // VIEWS_PER_ITEM
        category_of_item = rng.choice(CATEGORIES, items, p=sizes / sizes.sum())
        flags = {name: rng.permutation(items) < math.ceil(share * items) for name, share in SELECTIVITY.items()}
        rng = np.random.default_rng([seed, _MIXING])
        scale = np.arange(1, dimensions + 1, dtype=np.float32) ** -_SCALE_DECAY
        scale /= np.sqrt(np.mean(scale**2))
        rotation = np.linalg.qr(rng.standard_normal((dimensions, dimensions), dtype=np.float32))[0]
        category_vectors = rng.standard_normal((CATEGORIES, dimensions), dtype=np.float32)
        return cls(seed, item_of_row, category_of_item, flags, category_vectors, rotation * scale[:, None])

    @property
    def rows(self) -> int:
        """n, the number of pictures."""
        return len(self.item_of_row)

    @property
    def dimensions(self) -> int:
        """D, the length of a vector."""
        return len(self.mixing)

    @property
    def chunks(self) -> range:
        """The numbers of all chunks."""
        return range(math.ceil(self.rows / CHUNK_ROWS))

    def chunk(self, number: int) -> FloatArray:
        """The vectors of rows number * CHUNK_ROWS and following: float32[m, D] with unit L2 norm, none negative."""
        items = self.item_of_row[number * CHUNK_ROWS : (number + 1) * CHUNK_ROWS]
        mixed = np.random.default_rng([self.seed, _VIEW, number]).standard_normal(
            (len(items), self.dimensions), dtype=np.float32
        )
        mixed *= _VIEW_WEIGHT
        mixed += _CATEGORY_WEIGHT * self.category_vectors[self.category_of_item[items]]
        for row, item in enumerate(items):
            # A generator for each item, because its views lie in different chunks.
            rng = np.random.default_rng([self.seed, _ITEM, item])
            mixed[row] += _ITEM_WEIGHT * rng.standard_normal(self.dimensions, dtype=np.float32)
        vectors: FloatArray = np.maximum(mixed @ self.mixing - _RELU_AT, 0)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    def attributes(self, row: int) -> dict[str, str]:
        """What the snapshot says of a row beside its vector."""
        item = self.item_of_row[row]
        flags = {name: "yes" if chosen[item] else "no" for name, chosen in self.flags.items()}
        return {"category": f"category-{self.category_of_item[item]:03d}", **flags}


def image_id(row: int) -> str:
    """The image_id of a snapshot's row, counted over its files in order."""
    return f"image-{row:09d}"


def row_of(image: str) -> int:
    """The row that an image_id names."""
    return int(image.removeprefix("image-"))


def write_snapshot(store: Store, rows: int, seed: int, dimensions: int = 2048) -> SnapshotManifest:
    """Streams a catalog into a committed snapshot; memory does not grow with `rows` but for a few integers each.

    Raises:
        StoreError: It could not be written.
    """
    catalog = SyntheticCatalog.draw(rows, seed, dimensions)
    spec = _made_up_encoder(seed, dimensions)
    started = datetime.datetime.now(datetime.timezone.utc)
    snapshot = new_name(started)
    files = tuple(_write_parts(store, snapshot_folder(snapshot), catalog, spec))
    ended = datetime.datetime.now(datetime.timezone.utc)
    manifest = SnapshotManifest(
        snapshot=snapshot,
        created_at=ended.isoformat(timespec="seconds"),
        catalog=f"synthetic:{rows}:{seed}",
        previous_snapshot=None,
        encoder=spec.to_manifest(),
        counts=Counts(rows, rows, 0, 0),
        rejected_by_reason={},
        files=files,
        timing={"started_at": started.isoformat(), "seconds": round((ended - started).total_seconds(), 3)},
        versions={"numpy": np.__version__},
    )
    commit(store, manifest)
    return manifest


def _made_up_encoder(seed: int, dimensions: int) -> EncoderSpec:
    digest = hashlib.sha256(f"synthetic vectors {seed}".encode()).hexdigest()
    return EncoderSpec("ResNet50", "random:0", digest, "float32", 224, "crop", dimensions)


def _write_parts(store: Store, folder: str, catalog: SyntheticCatalog, spec: EncoderSpec) -> Iterator[PartFile]:
    schema = embedding_schema(spec.embedding_dim, spec.fingerprint)
    # Whole chunks to a part, so that a part's row groups are full.
    chunks_per_part = max(1, min(len(catalog.chunks) // _PARTS, _MOST_ROWS_PER_PART // CHUNK_ROWS))
    for first in catalog.chunks[::chunks_per_part]:
        writer = PartWriter(store, folder, f"part-{first // chunks_per_part:05d}.parquet", schema)
        with contextlib.ExitStack() as on_error:
            on_error.callback(writer.abandon)
            for number in catalog.chunks[first : first + chunks_per_part]:
                for offset, vector in enumerate(catalog.chunk(number)):
                    writer.add(_row(catalog, number * CHUNK_ROWS + offset, vector))
            part = writer.close()
            on_error.pop_all()
        if part is not None:
            yield part


def _row(catalog: SyntheticCatalog, row: int, vector: FloatArray) -> dict[str, Any]:
    name = image_id(row)
    return {
        "image_id": name,
        "item_id": f"item-{catalog.item_of_row[row]:09d}",
        "image_uri": f"synthetic/{name}.jpg",
        "source_version": None,
        "content_sha256": hashlib.sha256(name.encode()).hexdigest(),
        "width": 224,
        "height": 224,
        "attributes": list(catalog.attributes(row).items()),
        "embedding_norm": 1.0,
        "embedding": vector,
    }
