"""A committed snapshot of made-up rows, for what reads one: rows by hand, files as the real writers make them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from encoder.spec import EncoderSpec
from store.location import Store
from store.parts import PartFile, PartWriter
from store.rejects import Reason
from store.schema import STALE_SCHEMA, embedding_schema
from store.snapshot import Counts, SnapshotManifest, commit, snapshot_folder
from tests.support.versions import day_at, name_of
from transforms.previous import PreviousSnapshot
from transforms.rows import CatalogRow
from transforms.shard_files import cause, identity

SPEC = EncoderSpec("Fake", "none", "0" * 64, "float32", 32, "pad", 4)


def catalog_row(name: str, version: str = "", uri: str = "", position: str = "", **attributes: str) -> CatalogRow:
    """A good row; its picture is NAME.jpg unless another is given."""
    return CatalogRow(name, f"item of {name}", uri or f"{name}.jpg", version, attributes, position or f"row {name}")


def digest_of(row: CatalogRow) -> str:
    """What the content of a row's picture hashes to."""
    return hashlib.sha256(row.image_uri.encode()).hexdigest()


def past_snapshot(
    store: Store,
    rows: Sequence[CatalogRow],
    *,
    part_rows: int = 100,
    stale_runs: dict[str, int] | None = None,
    catalog: str = "catalog.csv",
) -> PreviousSnapshot:
    """Commits the rows, so many to a part; row n's embedding is n everywhere.

    Args:
        store: Gets the snapshot.
        rows: In the order of their places.
        part_rows: Rows of each part but the last.
        stale_runs: image_id -> for how many runs its picture could not be had.
        catalog: The catalog's URI.
    """
    name = name_of(1)
    folder = snapshot_folder(name)
    files: list[PartFile | None] = []
    for number, start in enumerate(range(0, len(rows), part_rows)):
        schema = embedding_schema(SPEC.embedding_dim, SPEC.fingerprint)
        part = PartWriter(store, folder, f"part-{number:05d}.parquet", schema)
        for place in range(start, min(start + part_rows, len(rows))):
            part.add(
                {
                    **identity(rows[place]),
                    "source_version": rows[place].source_version,
                    "content_sha256": digest_of(rows[place]),
                    "width": 10 + place,
                    "height": 20 + place,
                    "attributes": list(rows[place].attributes.items()),
                    "embedding_norm": 1.0 + place,
                    "embedding": np.full(SPEC.embedding_dim, place, np.float32),
                }
            )
        files.append(part.close())
    stale = PartWriter(store, folder, "stale-00000.parquet", STALE_SCHEMA)
    for row in rows:
        if stale_runs and row.image_id in stale_runs:
            why = cause(Reason.TIMEOUT.stage, Reason.TIMEOUT.value, "no answer")
            stale.add({**identity(row), **why, "stale_runs": stale_runs[row.image_id]})
    files.append(stale.close())
    manifest = SnapshotManifest(
        name,
        day_at(1).isoformat(),
        catalog,
        None,
        SPEC.to_manifest(),
        Counts(len(rows), len(rows), 0, 0),
        {},
        tuple(file for file in files if file is not None),
        {},
        {},
    )
    commit(store, manifest)
    return PreviousSnapshot.of(store, manifest)
