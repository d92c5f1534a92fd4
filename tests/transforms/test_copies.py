from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from store.errors import StoreError
from store.location import Store
from store.parts import PartFile
from store.snapshot import snapshot_folder
from tests.support.past import SPEC, catalog_row, digest_of, past_snapshot
from tests.support.versions import name_of
from transforms import copies
from transforms.copies import group_parts
from transforms.previous import PreviousSnapshot
from transforms.rows import CatalogRow
from transforms.run_counts import RunCounts
from transforms.snapshot import Verdict
from transforms.tasks import Reuse

ROWS = [catalog_row(f"id{place:02d}", "v1", colour="red") for place in range(10)]
FOLDER = snapshot_folder(name_of(2))


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(str(tmp_path / "store"))


@pytest.fixture
def previous(store: Store) -> PreviousSnapshot:
    """Ten rows in parts of four, four and two."""
    return past_snapshot(store, ROWS, part_rows=4)


def reuse(place: int, row: CatalogRow | None = None, **changes) -> Reuse:
    return dataclasses.replace(Reuse(row or ROWS[place], place, digest_of(ROWS[place])), **changes)


def copied(
    previous: PreviousSnapshot, rows: list[Reuse], rows_wanted: int = 8, verdict: Verdict = Verdict.COMMIT
) -> tuple[list[RunCounts], pa.Table]:
    """The tallies of every group, and all rows that were written."""
    groups = group_parts(previous.parts, rows_wanted)
    by_group: dict[int, list[Reuse]] = {}
    for row in rows:
        number, _ = copies._assign(row, previous, groups)
        by_group.setdefault(number, []).append(row)
    tallies = [
        tally
        for group in by_group.items()
        for tally in copies._copy(group, previous, groups, previous.store, FOLDER, SPEC, verdict)
    ]
    paths = [file.path for tally in tallies for file in tally.files if file.path.startswith("part-")]
    tables = [pq.read_table(previous.store.open(f"{FOLDER}/{path}")) for path in paths]
    return tallies, pa.concat_tables(tables) if tables else pa.table({})


def test_an_embedding_goes_with_what_the_catalog_says_now(previous: PreviousSnapshot) -> None:
    now = catalog_row("new name", "v2", "elsewhere.jpg", colour="blue")
    tallies, table = copied(previous, [reuse(9), reuse(5, now), reuse(2), reuse(5)])
    assert [tally.copied for tally in tallies] == [1, 3]
    rows = {row["image_id"]: row for row in table.to_pylist()}
    assert rows.keys() == {"id09", "new name", "id02", "id05"}
    assert rows["new name"] == {
        "image_id": "new name",
        "item_id": "item of new name",
        "image_uri": "elsewhere.jpg",
        "source_version": "v2",
        "content_sha256": digest_of(ROWS[5]),
        "width": 15,
        "height": 25,
        "attributes": [("colour", "blue")],
        "embedding_norm": 6.0,
        "embedding": [5.0] * 4,
    }
    for place in (2, 5, 9):
        np.testing.assert_array_equal(rows[f"id{place:02d}"]["embedding"], np.full(4, place))


@pytest.mark.parametrize("place", [0, 3, 5, 9])
def test_a_picture_other_than_the_one_embedded_is_never_copied(previous: PreviousSnapshot, place: int) -> None:
    """The last check between a row and another picture's embedding: files that changed between reading and copying."""
    rows = [reuse(at) for at in range(10) if at != place]
    with pytest.raises(StoreError, match="the previous snapshot changed while it was read; run again"):
        copied(previous, [*rows, reuse(place, content_sha256="f" * 64)])
    assert len(copied(previous, [*rows, reuse(place)])[1]) == 10


def test_a_place_beyond_the_last_row_is_an_error(previous: PreviousSnapshot) -> None:
    with pytest.raises(StoreError, match=rf"{previous.name}: expected a row 10, found only 10 rows"):
        copied(previous, [Reuse(ROWS[9], 10, digest_of(ROWS[9]))])


def test_stale_rows_say_why_and_for_how_long(previous: PreviousSnapshot) -> None:
    stale = reuse(1, stale_runs=2, reason="timeout", detail="no answer")
    (tally,), table = copied(previous, [reuse(0), stale])
    assert (len(table), tally.copied) == (2, 2)
    (file,) = [file for file in tally.files if file.path.startswith("stale-")]
    marks = pq.read_table(previous.store.open(f"{FOLDER}/{file.path}")).to_pylist()
    identity = {"image_id": "id01", "item_id": "item of id01", "image_uri": "id01.jpg"}
    assert marks == [{**identity, "stage": "fetch", "reason": "timeout", "detail": "no answer", "stale_runs": 2}]


@pytest.mark.parametrize("verdict", [Verdict.REFUSED, Verdict.UNCHANGED])
def test_nothing_is_copied_for_a_snapshot_that_is_not_to_be(previous: PreviousSnapshot, verdict: Verdict) -> None:
    assert copied(previous, [reuse(0)], verdict=verdict)[0] == []
    assert previous.store.list(FOLDER) == []


def test_small_parts_share_a_copy_and_large_ones_do_not() -> None:
    parts = [PartFile(f"part-{number}", rows, 1) for number, rows in enumerate((3, 3, 3, 9, 1, 1))]
    assert group_parts(parts, 6) == [0, 0, 1, 2, 3, 3]
    assert group_parts(parts, 1) == [0, 1, 2, 3, 4, 5]
    assert group_parts(parts, 100) == [0] * 6
    assert group_parts([], 6) == []
