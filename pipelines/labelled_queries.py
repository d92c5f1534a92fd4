"""Labelled pictures to measure retrieval with: rows of the index itself, or a catalog of their own."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fetch.trust import Trust
from index_builder.build import SnapshotRows
from index_builder.search import Hit, Rows, Searcher, row_table
from pipelines.log import LOG
from pipelines.trust import why_not_allowed
from store.errors import UserError
from store.location import Store
from store.snapshot import SnapshotManifest

ITEM = "item_id"
"""Stands for a label: pictures of one item are relevant to each other."""


@dataclasses.dataclass(frozen=True, slots=True)
class LabelledQueries:
    """Queries with labels, side by side.

    Attributes:
        vectors: float32[n, D].
        labels: n labels.
        pictures: n rows that say what each query is and where its picture lies.
        rows: Holds them.
        own_rows: int64[n], each query's row number in the index, or -1 where it is none of its rows.
        base: Where the pictures' relative URIs start from; None where it is the index's catalog.
    """

    vectors: npt.NDArray[np.float32]
    labels: list[str]
    pictures: list[Hit]
    rows: Rows
    own_rows: npt.NDArray[np.int64]
    base: str | None = None


def labels_of(rows: Rows, label: str) -> list[str | None]:
    """The label of every row, None where it has none.

    Raises:
        UserError: No row has such an attribute; the message lists those there are.
    """
    if label == ITEM:
        return [rows.item_id(row) for row in range(len(rows))]
    return rows.attribute(label)


def queries_from_index(
    searcher: Searcher, labels: Sequence[str | None], max_queries: int, seed: int = 0
) -> LabelledQueries:
    """Labelled rows of the index; a random sample where there are more than `max_queries`."""
    labelled = np.flatnonzero([label is not None for label in labels])
    if len(labelled) > max_queries:
        LOG.info(f"A sample of {max_queries:,} of {len(labelled):,} labelled rows are the queries.")
        labelled = np.sort(np.random.default_rng(seed).choice(labelled, max_queries, replace=False))
    return _select(searcher.rows, searcher.vectors(labelled), labelled, labels, own_rows=labelled)


def queries_from_catalog(store: Store, searcher: Searcher, uri: str, label: str, trust: Trust) -> LabelledQueries:
    """Embeds a catalog with the index's encoder, as the index's own catalog was, and takes its labelled rows.

    Rejected pictures and rows without the label are left out, and counted on the console.

    Raises:
        UserError: The catalog cannot be read, or none of its pictures can be a query.
        StoreError: The index's weights are missing, damaged or others.
    """
    from encoder.source import load_checked, open_source
    from pipelines.beam_flags import parse_beam_flags
    from pipelines.embed import embed_options, new_progress, started_now
    from pipelines.embed_pipeline import run_pipeline
    from pipelines.open_catalog import open_named_catalog
    from pipelines.requests import EmbedChoices
    from transforms.snapshot import SnapshotRequest

    source = open_source(store, searcher.manifest.encoder)
    load_checked(source)
    choices = EmbedChoices(
        max_reject_ratio=1.0,
        trust=trust.trust,
        allow_local=trust.allow_local,
        allow_hosts=trust.allow_hosts,
    )
    with tempfile.TemporaryDirectory(prefix="shelfmark-") as scratch:
        own_store = Store(os.path.join(scratch, "store"))
        snapshot, now = started_now()
        catalog = open_named_catalog(uri, own_store, snapshot, trust)
        options = embed_options(choices, catalog, source, None, new_progress(scratch))
        request = SnapshotRequest(snapshot, uri, now.isoformat(), choices.max_reject_ratio)
        manifest = run_pipeline(catalog, source, own_store, request, options, parse_beam_flags([]))
        _say_rejected(manifest)
        return dataclasses.replace(_read_queries(own_store, manifest, label, uri), base=catalog.base)


def _say_rejected(manifest: SnapshotManifest) -> None:
    if manifest.counts.rejected:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in manifest.rejected_by_reason.items())
        LOG.warning(
            f"{manifest.counts.rejected:,} of {manifest.counts.catalog_rows:,} query rows were rejected ({reasons})."
            f"{why_not_allowed(manifest.rejected_by_reason, before=' ')}"
        )


def _read_queries(store: Store, manifest: SnapshotManifest, label: str, uri: str) -> LabelledQueries:
    if not manifest.counts.embedded:
        raise UserError(f"--queries {uri}: expected pictures, found none that could be embedded")
    batches = list(SnapshotRows(store, manifest).batches())
    rows = Rows([row_table(pa.concat_tables([batch.rows for batch in batches]))])
    vectors = np.concatenate([batch.embeddings for batch in batches])
    try:
        labels = labels_of(rows, label)
    except UserError as error:
        raise UserError(f"--queries {uri}: {error}") from error
    labelled = np.flatnonzero([text is not None for text in labels])
    if len(labelled) < len(labels):
        LOG.warning(f"{len(labels) - len(labelled):,} of {len(labels):,} query pictures have no {label}: left out.")
    return _select(rows, vectors[labelled], labelled, labels, own_rows=np.full(len(labelled), -1))


def _select(
    rows: Rows,
    vectors: npt.NDArray[np.float32],
    chosen: npt.NDArray[np.int64],
    labels: Sequence[str | None],
    own_rows: npt.NDArray[np.int64],
) -> LabelledQueries:
    return LabelledQueries(
        vectors=vectors,
        labels=[str(labels[row]) for row in chosen],
        pictures=[rows.hit(int(row), 1.0) for row in chosen],
        rows=rows,
        own_rows=own_rows,
    )
