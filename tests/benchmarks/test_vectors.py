from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks.vectors import (
    CATEGORIES,
    CHUNK_ROWS,
    SELECTIVITY,
    VIEWS_PER_ITEM,
    SyntheticCatalog,
    image_id,
    row_of,
    write_snapshot,
)
from encoder.spec import EncoderSpec
from store.location import Store
from store.snapshot import list_snapshots, read_manifest, snapshot_folder

ROWS, DIMENSIONS, SEED = CHUNK_ROWS + 900, 64, 3


@pytest.fixture(scope="module")
def catalog() -> SyntheticCatalog:
    return SyntheticCatalog.draw(ROWS, SEED, DIMENSIONS)


def test_chunks_are_the_same_whenever_and_in_whatever_order_they_are_drawn(catalog: SyntheticCatalog) -> None:
    forwards = [catalog.chunk(number) for number in catalog.chunks]
    again = SyntheticCatalog.draw(ROWS, SEED, DIMENSIONS)
    for number in reversed(again.chunks):
        np.testing.assert_array_equal(again.chunk(number), forwards[number])


def test_another_seed_is_another_catalog(catalog: SyntheticCatalog) -> None:
    other = SyntheticCatalog.draw(ROWS, SEED + 1, DIMENSIONS)
    assert not np.array_equal(other.item_of_row, catalog.item_of_row)
    assert not np.allclose(other.chunk(1), catalog.chunk(1))


def test_vectors_are_unit_float32_and_not_negative(catalog: SyntheticCatalog) -> None:
    vectors = [catalog.chunk(number) for number in catalog.chunks]
    assert [part.shape for part in vectors] == [(CHUNK_ROWS, DIMENSIONS), (900, DIMENSIONS)]
    every = np.concatenate(vectors)
    assert every.dtype == np.float32
    assert every.min() == 0
    np.testing.assert_allclose(np.linalg.norm(every, axis=1), 1, atol=1e-5)


def test_every_item_has_its_views_and_they_look_alike(catalog: SyntheticCatalog) -> None:
    assert set(np.bincount(catalog.item_of_row)) == {VIEWS_PER_ITEM}
    vectors = np.concatenate([catalog.chunk(number) for number in catalog.chunks])
    order = np.argsort(catalog.item_of_row, kind="stable").reshape(-1, VIEWS_PER_ITEM)
    together = float(np.mean(np.sum(vectors[order[:, 0]] * vectors[order[:, 1]], axis=1)))
    apart = float(np.mean(np.sum(vectors[order[:-1, 0]] * vectors[order[1:, 1]], axis=1)))
    assert together > apart + 0.1


def test_views_of_an_item_lie_in_different_chunks(catalog: SyntheticCatalog) -> None:
    last = set(catalog.item_of_row[CHUNK_ROWS:])
    assert len(last) > 900 / VIEWS_PER_ITEM * 2


def test_spectrum_and_sparsity_are_those_of_trained_features() -> None:
    catalog = SyntheticCatalog.draw(4 * CHUNK_ROWS, 0)
    sample = catalog.chunk(2)
    assert sample.shape == (CHUNK_ROWS, 2048)
    assert np.mean(sample == 0) == pytest.approx(0.63, abs=0.01)
    centred = sample - sample.mean(0)
    eigenvalues = np.linalg.eigvalsh(centred.T @ centred / len(centred))[::-1]
    ranks = np.arange(10, 501)
    exponent = -np.polyfit(np.log(ranks), np.log(eigenvalues[ranks - 1]), 1)[0]
    assert 1.0 < exponent < 1.15


def test_snapshot_holds_every_row_once_as_drawn(tmp_path: Path, catalog: SyntheticCatalog) -> None:
    store = Store(str(tmp_path))
    written = write_snapshot(store, ROWS, SEED, DIMENSIONS)
    assert list_snapshots(store) == [written.snapshot]
    manifest = read_manifest(store, written.snapshot)
    assert manifest.counts.catalog_rows == manifest.counts.embedded == ROWS
    assert len(manifest.files) > 1
    assert EncoderSpec.from_manifest(manifest.encoder).embedding_dim == DIMENSIONS
    folder = tmp_path / snapshot_folder(manifest.snapshot)
    rows = [row for file in manifest.files for row in pq.read_table(folder / file.path).to_pylist()]
    assert [row["image_id"] for row in rows] == [image_id(row) for row in range(ROWS)]
    assert rows[CHUNK_ROWS]["item_id"] == f"item-{catalog.item_of_row[CHUNK_ROWS]:09d}"
    np.testing.assert_array_equal(np.array(rows[CHUNK_ROWS]["embedding"], np.float32), catalog.chunk(1)[0])
    for name, share in SELECTIVITY.items():
        chosen = sum(dict(row["attributes"])[name] == "yes" for row in rows)
        assert chosen == pytest.approx(share * ROWS, abs=2 * VIEWS_PER_ITEM)
    assert 1 < len({dict(row["attributes"])["category"] for row in rows}) <= CATEGORIES


def test_row_of_undoes_image_id() -> None:
    assert [row_of(image_id(row)) for row in (0, 41, 1_234_567)] == [0, 41, 1_234_567]
