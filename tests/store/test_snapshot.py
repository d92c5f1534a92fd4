from __future__ import annotations

import dataclasses
import datetime

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.errors import StoreError, UserError
from store.location import Store
from store.parts import ROW_GROUP_ROWS, PartFile, PartWriter
from store.schema import FINGERPRINT_KEY, REJECTED_SCHEMA, embedding_schema
from store.snapshot import (
    SNAPSHOT_NAME,
    Counts,
    SnapshotManifest,
    commit,
    list_snapshots,
    new_name,
    read_manifest,
    snapshot_folder,
)

NOW = datetime.datetime(2026, 11, 21, 3, 15, tzinfo=datetime.timezone.utc)
MICROSECOND, HOUR = datetime.timedelta(microseconds=1), datetime.timedelta(hours=1)
TOKYO = datetime.timezone(datetime.timedelta(hours=9))


def _row(index: int, vector: np.ndarray) -> dict:
    return {
        "image_id": f"id{index}",
        "item_id": "item",
        "image_uri": f"{index}.jpg",
        "source_version": "",
        "content_sha256": "0" * 64,
        "width": 3,
        "height": 4,
        "attributes": [("category", "mug")],
        "embedding_norm": 2.5,
        "embedding": vector,
    }


def _write_parts(store: Store, folder: str, rows: int) -> tuple[PartFile, np.ndarray]:
    vectors = np.random.default_rng(0).normal(size=(rows, 8)).astype(np.float32)
    writer = PartWriter(store, folder, "part-0.parquet", embedding_schema(8, "f" * 64))
    for index, vector in enumerate(vectors):
        writer.add(_row(index, vector))
    part = writer.close()
    assert part is not None
    return part, vectors


def _manifest(files: tuple[PartFile, ...], counts: Counts) -> SnapshotManifest:
    return SnapshotManifest(
        snapshot=new_name(NOW),
        created_at=NOW.isoformat(),
        catalog="catalog.csv",
        previous_snapshot=None,
        encoder={"backbone": "ResNet50"},
        counts=counts,
        rejected_by_reason={},
        files=files,
        timing={},
        versions={},
    )


def test_embeddings_come_back_as_they_were(tmp_path):
    part, vectors = _write_parts(Store(str(tmp_path)), "s", ROW_GROUP_ROWS + 5)
    table = pq.read_table(tmp_path / "s" / part.path)
    assert table.schema.equals(embedding_schema(8, "f" * 64))
    assert table.schema.metadata[FINGERPRINT_KEY] == b"f" * 64
    flat = table["embedding"].combine_chunks().flatten().to_numpy()
    np.testing.assert_array_equal(flat.reshape(-1, 8), vectors)
    assert table["attributes"][0].as_py() == [("category", "mug")]
    metadata = pq.read_metadata(tmp_path / "s" / part.path)
    assert metadata.num_row_groups == 2
    assert "BYTE_STREAM_SPLIT" in metadata.row_group(0).column(metadata.num_columns - 1).encodings
    assert part == PartFile("part-0.parquet", ROW_GROUP_ROWS + 5, (tmp_path / "s" / part.path).stat().st_size)


def test_no_rows_no_file(tmp_path):
    assert PartWriter(Store(str(tmp_path)), "s", "rejected-0.parquet", REJECTED_SCHEMA).close() is None
    assert list(tmp_path.iterdir()) == []


def test_a_snapshot_exists_once_its_manifest_does(tmp_path):
    store = Store(str(tmp_path))
    manifest = _manifest((), Counts(3, 3, 0, 0))
    part, _ = _write_parts(store, snapshot_folder(manifest.snapshot), 3)
    manifest = dataclasses.replace(manifest, files=(part,))
    assert list_snapshots(store) == []
    with pytest.raises(UserError, match="no snapshot"):
        read_manifest(store, manifest.snapshot)
    commit(store, manifest)
    assert list_snapshots(store) == [manifest.snapshot]
    assert read_manifest(store, manifest.snapshot) == manifest
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize(
    ("counts", "rows", "says"),
    [
        (Counts(4, 3, 0, 0), 3, "expected 4 catalog rows .* found 3"),
        (Counts(3, 2, 0, 1), 3, "expected 1 rejected rows by reason, found 0"),
        (Counts(3, 3, 0, 0), 2, "expected 3 rows in files, found 2"),
    ],
)
def test_rows_that_do_not_add_up_are_not_committed(tmp_path, counts, rows, says):
    store = Store(str(tmp_path))
    with pytest.raises(StoreError, match=says):
        commit(store, _manifest((PartFile("part-0.parquet", rows, 1),), counts))
    assert list_snapshots(store) == []


def test_a_missing_or_cut_file_is_not_committed(tmp_path):
    store = Store(str(tmp_path))
    manifest = _manifest((), Counts(3, 3, 0, 0))
    part, _ = _write_parts(store, snapshot_folder(manifest.snapshot), 3)
    for wrong in (dataclasses.replace(part, path="part-1.parquet"), dataclasses.replace(part, bytes=part.bytes + 1)):
        with pytest.raises(StoreError, match=r"expected .* bytes, found"):
            commit(store, dataclasses.replace(manifest, files=(wrong,)))
    assert list_snapshots(store) == []


def test_a_name_says_when():
    assert new_name(NOW + datetime.timedelta(microseconds=0xABCDE)).startswith("20261121T031500Z-abcde")


@given(st.datetimes(datetime.datetime(1970, 1, 1), datetime.datetime(2200, 1, 1)), st.timedeltas(MICROSECOND, HOUR))
def test_names_sort_by_time_within_a_second_too(early, later):
    early = early.replace(tzinfo=datetime.timezone.utc)
    names = [new_name(early), new_name((early + later).astimezone(TOKYO))]
    assert all(SNAPSHOT_NAME.fullmatch(name) for name in names)
    assert names[0] < names[1]


def test_names_of_one_microsecond_differ_by_chance():
    assert len({new_name(NOW) for _ in range(200)}) > 1


def test_a_store_that_cannot_be_written_is_the_callers_mistake(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match="can be written"):
        Store(str(tmp_path / "file")).check_writable()
    with pytest.raises(UserError, match="expected a local folder"):
        Store("ftp://host/x").check_writable()
