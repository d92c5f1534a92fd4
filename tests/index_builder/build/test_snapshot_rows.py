from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from index_builder.build.snapshot_rows import SnapshotRows
from store.errors import StoreError, UserError
from store.location import Store
from store.snapshot import read_manifest
from tests.support.moved_catalogs import DIMENSION, MovedCatalog, add_snapshot, drawn


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> tuple[SnapshotRows, MovedCatalog]:
    """1,200 rows in parts of 70."""
    store = Store(str(tmp_path_factory.mktemp("rows") / "store"))
    catalog = drawn()
    return SnapshotRows.open(store, add_snapshot(store, 1, catalog, part_rows=70)), catalog


@pytest.mark.parametrize(("start", "stop"), [(0, None), (0, 1), (69, 71), (100, 555), (1199, 1200), (500, 500)])
def test_any_stretch_of_rows_is_read_as_it_lies(
    snapshot: tuple[SnapshotRows, MovedCatalog], start: int, stop: int | None
) -> None:
    rows, catalog = snapshot
    batches = list(rows.batches(start, stop))
    ids = [name for batch in batches for name in batch.rows["image_id"].to_pylist()]
    assert ids == catalog.ids[start:stop]
    for batch in batches:
        np.testing.assert_array_equal(batch.embeddings, catalog.vectors[batch.start : batch.start + len(batch.rows)])


def test_without_ids_only_embeddings_are_read(snapshot: tuple[SnapshotRows, MovedCatalog]) -> None:
    rows, catalog = snapshot
    batches = list(rows.batches(ids=False))
    assert {tuple(batch.rows.column_names) for batch in batches} == {()}
    np.testing.assert_array_equal(np.concatenate([batch.embeddings for batch in batches]), catalog.vectors)


@pytest.mark.parametrize("seed", range(5))
def test_vectors_are_those_of_the_rows(snapshot: tuple[SnapshotRows, MovedCatalog], seed: int) -> None:
    rows, catalog = snapshot
    numbers = np.flatnonzero(np.random.default_rng(seed).random(1200) < 0.2**seed)
    np.testing.assert_array_equal(rows.vectors(numbers), catalog.vectors[numbers])


@pytest.mark.parametrize("count", [1, 40, 1200, 5000])
def test_a_sample_is_of_different_rows_and_depends_on_the_seed(
    snapshot: tuple[SnapshotRows, MovedCatalog], count: int
) -> None:
    rows, catalog = snapshot
    numbers, vectors = rows.sample(count, seed=7)
    assert len(numbers) == min(count, 1200)
    assert (np.diff(numbers) > 0).all()
    np.testing.assert_array_equal(vectors, catalog.vectors[numbers])
    np.testing.assert_array_equal(rows.sample(count, seed=7)[0], numbers)
    if 1 < count < 1200:
        assert rows.sample(count, seed=8)[0].tolist() != numbers.tolist()


def test_what_must_not_be_indexed_is_refused(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    with pytest.raises(UserError, match="no snapshot in "):
        SnapshotRows.open(store)
    catalog = drawn(20)
    manifest = read_manifest(store, add_snapshot(store, 1, catalog))
    described = {**manifest.encoder, "fingerprint": "another"}
    with pytest.raises(StoreError, match="expected embeddings of encoder another, found one; "):
        SnapshotRows(store, dataclasses.replace(manifest, encoder=described))
    described = {**manifest.encoder, "embedding_dim": DIMENSION + 1}
    with pytest.raises(StoreError, match=f"expected {DIMENSION + 1} dimensions, found {DIMENSION}"):
        SnapshotRows(store, dataclasses.replace(manifest, encoder=described))
    counts = dataclasses.replace(manifest.counts, embedded=21)
    with pytest.raises(StoreError, match="expected 21 embedded rows, found 20"):
        SnapshotRows(store, dataclasses.replace(manifest, counts=counts))


@pytest.mark.parametrize(("factor", "said"), [(2.0, "expected embeddings of length 1, found 2"), (np.nan, "found NaN")])
def test_an_embedding_that_is_not_of_length_1_is_refused(tmp_path: Path, factor: float, said: str) -> None:
    store = Store(str(tmp_path / "store"))
    catalog = drawn(20)
    vectors = catalog.vectors.copy()
    vectors[13] *= factor
    rows = SnapshotRows.open(store, add_snapshot(store, 1, dataclasses.replace(catalog, vectors=vectors)))
    with pytest.raises(StoreError, match=said):
        list(rows.batches())
