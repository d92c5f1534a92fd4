from __future__ import annotations

import collections
import dataclasses
import gc
import weakref
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index_builder.search.rows import ROWS_FILE, Hit, Rows, row_table, write_rows
from store.errors import UserError

NAMES = st.sampled_from(["category", "colour", "a=b", ""])
ATTRIBUTES = st.lists(st.one_of(st.none(), st.dictionaries(NAMES, st.sampled_from(["x", "y", "", "é"]))), min_size=1)


def table_of(attributes: list[dict[str, str] | None]) -> pa.Table:
    count = len(attributes)
    return pa.table(
        {
            "image_id": pa.array([f"image-{row}" for row in range(count)], pa.string()),
            "item_id": pa.array([f"item-{row // 2}" for row in range(count)], pa.string()),
            "image_uri": pa.array([f"{row}.jpg" for row in range(count)], pa.string()),
            "attributes": pa.array(
                [None if one is None else list(one.items()) for one in attributes], pa.map_(pa.string(), pa.string())
            ),
        }
    )


@given(st.lists(ATTRIBUTES, min_size=1, max_size=3), st.sampled_from(["x", "y", "", "é", "none has it"]))
def test_filters_agree_with_looking_at_every_row(shards: list[list[dict[str, str] | None]], value: str) -> None:
    rows = Rows([row_table(pa.concat_tables([table_of(shard[:2]), table_of(shard[2:])])) for shard in shards])
    flat = [one or {} for shard in shards for one in shard]
    assert rows.attribute_names == tuple(sorted({name for one in flat for name in one}))
    for name in rows.attribute_names:
        np.testing.assert_array_equal(rows.matching({name: value}), [one.get(name) == value for one in flat])
        assert rows.attribute(name) == [one.get(name) for one in flat]
    assert [rows.hit(row, 0.5).attributes for row in range(len(rows))] == flat


def test_conditions_must_all_hold() -> None:
    rows = Rows([row_table(table_of([{"a": "1", "b": "1"}, {"a": "1", "b": "2"}, {"b": "1"}]))])
    np.testing.assert_array_equal(rows.matching({"a": "1", "b": "1"}), [True, False, False])


def test_an_attribute_that_no_row_has_is_named_with_those_there_are() -> None:
    rows = Rows([row_table(table_of([{"category": "x"}]))])
    with pytest.raises(UserError, match=r"\(category\), found 'size'"):
        rows.matching({"size": "x"})


def test_rows_are_found_by_id_in_any_shard(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for number, folder in enumerate(folders):
        folder.mkdir()
        table = table_of([{"shard": str(number)}] * 3)
        write_rows(folder / ROWS_FILE, row_table(table))
    rows = Rows.open(folders)
    assert len(rows) == 6
    assert rows.find("image_id", "image-1").tolist() == [1, 4]
    assert rows.find("item_id", "item-0").tolist() == [0, 1, 3, 4]
    assert rows.find("item_id", "item").tolist() == []
    assert (rows.image_id(5), rows.item_id(5)) == ("image-2", "item-1")
    hit = rows.hit(4, 0.25)
    assert (hit.image_id, hit.image_uri, hit.score, hit.attributes, hit.row) == (
        "image-1",
        "1.jpg",
        0.25,
        {"shard": "1"},
        4,
    )


@given(st.lists(ATTRIBUTES, min_size=1, max_size=3), st.data())
def test_many_hits_are_the_hits_one_by_one(shards: list[list[dict[str, str] | None]], data: st.DataObject) -> None:
    rows = Rows([row_table(table_of(shard)) for shard in shards])
    flat = [(number, row, one or {}) for number, shard in enumerate(shards) for row, one in enumerate(shard)]
    chosen = data.draw(st.lists(st.integers(0, len(flat) - 1), max_size=30))
    scores = np.linspace(1, -1, len(chosen), dtype=np.float32)
    hits = rows.hits(np.array(chosen, np.int64), scores)
    assert hits == [
        Hit(f"image-{row}", f"item-{row // 2}", f"{row}.jpg", float(score), attributes, place)
        for score, place in zip(scores, chosen, strict=True)
        for _, row, attributes in [flat[place]]
    ]
    assert hits == [rows.hit(row, float(score)) for row, score in zip(chosen, scores, strict=True)]
    assert rows.image_ids(np.array(chosen, np.int64)) == [hit.image_id for hit in hits]
    assert rows.item_ids(np.array(chosen, np.int64)) == [rows.item_id(row) for row in chosen]
    assert all(isinstance(value, (str, float, int, dict)) for hit in hits for value in dataclasses.astuple(hit))


@given(st.lists(ATTRIBUTES, min_size=1, max_size=3), st.integers(0, 4))
def test_values_are_counted_over_all_shards(shards: list[list[dict[str, str] | None]], limit: int) -> None:
    rows = Rows([row_table(table_of(shard)) for shard in shards])
    for name in rows.attribute_names:
        counts = collections.Counter(value for value in rows.attribute(name) if value is not None)
        most_frequent = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:limit]
        assert rows.value_counts(name, limit) == (most_frequent, len(counts))
    with pytest.raises(UserError, match="found 'size'"):
        rows.value_counts("size", limit)


def test_a_table_in_several_pieces_is_read_like_one() -> None:
    pieces = [row_table(table_of([{"a": value}] * 2)) for value in ("x", "y", "x")]
    rows = Rows([pa.concat_tables(pieces)])
    assert rows.attribute("a") == ["x", "x", "y", "y", "x", "x"]
    assert [hit.attributes["a"] for hit in rows.hits(np.arange(6), np.zeros(6))] == rows.attribute("a")
    assert rows.matching({"a": "y"}).tolist() == [False, False, True, True, False, False]
    assert rows.value_counts("a", 9) == ([("x", 4), ("y", 2)], 2)


def test_the_cache_of_filters_is_bounded_and_dies_with_the_rows() -> None:
    rows = Rows([row_table(table_of([{"a": str(number)} for number in range(40)]))])
    kept = [weakref.ref(rows.matching({"a": str(number)})) for number in range(40)]
    assert [mask() is not None for mask in kept] == [False] * 8 + [True] * 32
    assert rows.matching({"a": "39"}) is kept[39]()
    gc.disable()
    try:
        del rows
        assert [mask for mask in kept if mask() is not None] == []
    finally:
        gc.enable()
