from __future__ import annotations

import itertools
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from store.location import Store
from store.parts import PartFile
from store.snapshot import read_manifest
from tests.support.moved_catalogs import add_snapshot, drawn
from transforms.previous import PreviousSnapshot, describe


def of_parts(rows: list[int]) -> PreviousSnapshot:
    parts = tuple(PartFile(f"part-{number:05d}.parquet", count, 1) for number, count in enumerate(rows))
    starts = tuple(itertools.accumulate(rows, initial=0))[:-1]
    return PreviousSnapshot(Store("nowhere"), "name", "catalog", parts, starts, (), ())


@given(st.lists(st.integers(1, 9), max_size=8))
def test_places_are_counted_through_the_parts(rows: list[int]) -> None:
    previous = of_parts(rows)
    assert previous.rows == sum(rows)
    found = [previous.part_at(place) for place in range(previous.rows)]
    assert found == [number for number, count in enumerate(rows) for _ in range(count)]


def test_a_snapshot_is_known_by_its_manifest(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    catalog = drawn(25)
    previous = PreviousSnapshot.of(store, read_manifest(store, add_snapshot(store, 1, catalog, part_rows=10)))
    assert (previous.rows, previous.starts) == (25, (0, 10, 20))
    assert (previous.stale, previous.rejected, list(previous.rejected_rows())) == ((), (), [])
    batches = [batch for part in previous.parts for batch in previous.batches(part, ["image_id"])]
    assert [name for batch in batches for name in batch["image_id"].to_pylist()] == catalog.ids


TEXT = st.text(max_size=4)
DESCRIBED = st.tuples(TEXT, TEXT, TEXT, st.dictionaries(TEXT, TEXT, max_size=3))


@given(DESCRIBED, DESCRIBED)
def test_descriptions_differ_where_anything_differs_but_the_order_of_attributes(one: tuple, other: tuple) -> None:
    assert (describe(*one) == describe(*other)) == (one == other)
    item_id, image_uri, version, attributes = one
    turned = dict(reversed(attributes.items()))
    assert describe(item_id, image_uri, version, turned) == describe(*one)
    assert len(describe(*one)) == 32
