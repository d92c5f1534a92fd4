from __future__ import annotations

import itertools
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.vectors import write_snapshot
from index_builder.build.builder import build_index
from index_builder.build.check import check_index
from index_builder.build.request import BuildRequest
from index_builder.build.snapshot_rows import SnapshotRows
from index_builder.search.engine import ExactEngine
from index_builder.search.searcher import Searcher
from store.errors import GateRefused, StoreError, UserError
from store.index import list_versions, read_index_manifest, version_folder
from store.location import Store
from store.publication import current_version
from store.schema import FINGERPRINT_KEY
from store.snapshot import MANIFEST, list_snapshots, snapshot_folder
from tests.index_builder.conftest import Indexed, use_trees


@pytest.fixture
def copied(sharded: Indexed, tmp_path: Path) -> Path:
    shutil.copytree(sharded.store.uri, tmp_path / "store")
    return tmp_path / "store"


def version_path(store: Path) -> Path:
    version = current_version(Store(str(store)))
    assert version is not None
    return store / version_folder(version)


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x40
    path.write_bytes(data)


@pytest.mark.parametrize(
    "file",
    [
        "projection.npy",
        "shard-00001/rows.arrow",
        "shard-00001/scales.npy",
        "shard-00002/scann/serialized_partitioner.pb",
        "shard-00002/scann/hashed_dataset.npy",
        "recall.parquet",
    ],
)
def test_a_flipped_byte_is_found_on_opening(copied: Path, file: str) -> None:
    flip_a_byte(version_path(copied) / file)
    with pytest.raises(StoreError, match=rf"{file}: expected SHA-256 \w+, found another"):
        Searcher.open(str(copied))


def test_a_flipped_byte_in_codes_is_found_by_a_check(copied: Path) -> None:
    flip_a_byte(version_path(copied) / "shard-00000/codes.npy")
    with pytest.raises(StoreError, match=r"codes.npy: expected SHA-256"):
        check_index(Store(str(copied)), None)


def test_a_missing_shard_is_found(copied: Path) -> None:
    shutil.rmtree(version_path(copied) / "shard-00001")
    with pytest.raises(StoreError, match=r"shard-00001.*: listed in the index's manifest, found none"):
        Searcher.open(str(copied))


def test_a_file_cut_short_is_found(copied: Path) -> None:
    codes = version_path(copied) / "shard-00000/codes.npy"
    codes.write_bytes(codes.read_bytes()[:-1])
    with pytest.raises(StoreError, match=r"codes.npy: expected \d+ bytes, found \d+"):
        Searcher.open(str(copied))


def test_another_format_version_is_refused(copied: Path) -> None:
    path = version_path(copied) / MANIFEST
    fields = json.loads(path.read_text())
    path.write_text(json.dumps({**fields, "format_version": 2}))
    with pytest.raises(StoreError, match="index format: expected 1, found 2; use the Shelfmark that wrote it"):
        Searcher.open(str(copied))


def test_a_check_repeats_the_measurement(sharded: Indexed) -> None:
    checked = check_index(sharded.store, None)
    assert checked.measured == pytest.approx(sharded.manifest.recall.measured, abs=1e-4)
    assert checked.queries == sharded.manifest.recall.queries
    assert checked.queries >= 1_000


def test_a_manifest_that_claims_more_recall_is_caught(copied: Path) -> None:
    path = version_path(copied) / MANIFEST
    fields = json.loads(path.read_text())
    fields["recall"]["measured"] = 0.9999
    path.write_text(json.dumps(fields))
    with pytest.raises(GateRefused, match=r"expected recall@10 0.9999, found 0.9"):
        check_index(Store(str(copied)), None)


def test_under_its_target_a_version_is_kept_and_not_published(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    store = Store(str(copied))
    before = current_version(store)
    use_trees(monkeypatch, 10_000, queries=100)
    with pytest.raises(GateRefused, match=r"recall@10 0\.\d+ is under the target 0.9999: version .* is kept"):
        build_index(store, BuildRequest(target_recall=0.9999, dimensions=4))
    kept = list_versions(store)[-1]
    assert current_version(store) == before != kept
    assert not read_index_manifest(store, kept).meets_target
    assert (copied / version_folder(kept) / "report.html").is_file()


def rewrite_part(store: Path, change: str) -> str:
    """Damages one part of the snapshot; returns the snapshot's name."""
    snapshot = next((store / "embeddings").iterdir()).name
    path = sorted((store / snapshot_folder(snapshot)).glob("part-*.parquet"))[-1]
    table = pq.read_table(path)
    vectors = np.array(table["embedding"].combine_chunks().flatten()).reshape(len(table), -1)
    if change == "fingerprint":
        table = table.replace_schema_metadata({**table.schema.metadata, FINGERPRINT_KEY: b"0" * 64})
    else:
        if change == "nan":
            vectors[5, 7] = np.nan
        elif change == "length":
            vectors[5] *= 2
        elif change == "copies":
            vectors[:] = vectors[0]
        elif change == "alike":
            vectors = vectors * 1e-3 + 1
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        else:
            vectors = np.ascontiguousarray(vectors[:, :50])
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
        place = table.schema.get_field_index("embedding")
        table = table.set_column(place, "embedding", column).replace_schema_metadata(table.schema.metadata)
    pq.write_table(table, path)
    manifest = store / snapshot_folder(snapshot) / "manifest.json"
    fields = json.loads(manifest.read_text())
    (listed,) = (file for file in fields["files"] if file["path"] == path.name)
    listed["bytes"] = path.stat().st_size
    manifest.write_text(json.dumps(fields))
    return snapshot


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("nan", "expected finite embeddings, found NaN or infinity"),
        ("length", "expected embeddings of length 1, found 2"),
        ("fingerprint", "expected embeddings of encoder .* found 000000000000; embeddings of two encoders"),
        ("dimension", "expected 96 dimensions, found 50"),
    ],
)
def test_what_must_not_be_indexed_is_refused(copied: Path, change: str, message: str) -> None:
    rewrite_part(copied, change)
    store = Store(str(copied))
    before = current_version(store)
    with pytest.raises(StoreError, match=message) as caught:
        build_index(store, BuildRequest())
    assert "\n" not in str(caught.value)
    assert current_version(store) == before
    assert len(list_versions(store)) == 1


def test_a_missing_part_is_named(copied: Path) -> None:
    next(copied.glob("embeddings/*/part-*.parquet")).unlink()
    store = Store(str(copied))
    said: list[str] = []
    (snapshot,) = list_snapshots(store)
    with pytest.raises(StoreError, match=r"part-\d+.parquet: listed in the snapshot's manifest, found none"):
        SnapshotRows.open(store, snapshot)
    with pytest.raises(UserError, match="no snapshot in"):
        SnapshotRows.open(store, None, said.append)
    assert "is damaged and set aside: " in said[0]
    assert re.search(r"part-\d+.parquet: expected \d+ bytes, found none", said[0])


def test_an_empty_snapshot_and_none_at_all(copied: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no snapshot in .*; make one with shelfmark embed"):
        build_index(Store(str(tmp_path / "nothing")), BuildRequest())
    path = next(copied.glob("embeddings/*/manifest.json"))
    fields = json.loads(path.read_text())
    fields["files"] = []
    fields["counts"] = {"catalog_rows": 0, "embedded": 0, "reused": 0, "rejected": 0}
    path.write_text(json.dumps(fields))
    with pytest.raises(UserError, match="is empty: no picture was embedded"):
        build_index(Store(str(copied)), BuildRequest())


def test_a_catalog_of_nearly_the_same_pictures_is_indexed(tmp_path: Path) -> None:
    """As untrained weights see one: every cosine is about 1, and rounding decides who comes first."""
    store = Store(str(tmp_path / "store"))
    write_snapshot(store, 81, seed=1, dimensions=512)
    rewrite_part(tmp_path / "store", "alike")
    assert build_index(store, BuildRequest()).recall.measured == 1


def test_a_version_that_does_not_answer_as_it_did_never_exists(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is reopened is checked before the manifest is written."""
    store = Store(str(copied))
    before = list_versions(store)
    plain = ExactEngine.nearest

    def changed(self: ExactEngine, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        rows, scores = plain(self, queries, count)
        return rows, scores - (0.1 if len(queries) == 20 and next(calls) else 0)

    calls = itertools.count()
    monkeypatch.setattr(ExactEngine, "nearest", changed)
    with pytest.raises(StoreError, match="does not answer as it did when it was measured"):
        build_index(store, BuildRequest())
    assert list_versions(store) == before


@pytest.mark.parametrize("trees", [True, False])
def test_a_full_disk_is_one_line_and_leaves_no_version(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, trees: bool
) -> None:
    store = Store(str(small_disk / "store"))
    write_snapshot(store, 2_000, seed=1, dimensions=96)
    if trees:
        use_trees(monkeypatch, 10_000, queries=100)
    with open(small_disk / "ballast", "wb") as ballast:
        ballast.write(bytes(shutil.disk_usage(small_disk).free - 600_000))
    with pytest.raises((StoreError, OSError), match=r"(?i)no space left"):
        build_index(store, BuildRequest(dimensions=48))
    (small_disk / "ballast").unlink()
    assert (current_version(store), list_versions(store)) == (None, [])
    build_index(store, BuildRequest(dimensions=48, target_recall=0.5))
    assert len(list_versions(store)) == 1


@pytest.mark.parametrize("rows", [1, 2, 8])
def test_the_smallest_catalogs_are_indexed(tmp_path: Path, rows: int) -> None:
    store = Store(str(tmp_path))
    write_snapshot(store, rows, seed=1, dimensions=32)
    manifest = build_index(store, BuildRequest())
    assert (manifest.recall.k, manifest.recall.measured) == (max(1, rows - 1), 1)
    searcher = Searcher.open(store.uri)
    assert (searcher.search(searcher.vectors([0]), 10).rows >= 0).sum() == rows


def test_hundreds_of_copies_of_one_picture_are_indexed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path))
    write_snapshot(store, 3_000, seed=1, dimensions=96)
    rewrite_part(tmp_path, "copies")
    use_trees(monkeypatch, 10_000, queries=100)
    build_index(store, BuildRequest(dimensions=24, target_recall=0.9))
    searcher = Searcher.open(store.uri)
    assert (searcher.search(searcher.vectors([0, 2_999]), 10).scores > 0.99).all()


def test_more_neighbours_than_a_leaf_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path))
    write_snapshot(store, 3_000, seed=1, dimensions=96)
    use_trees(monkeypatch, 10_000, queries=100)
    manifest = build_index(store, BuildRequest(k=200, dimensions=48, target_recall=0.5))
    assert manifest.recall.k == 200
