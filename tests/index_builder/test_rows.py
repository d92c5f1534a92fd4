from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index_builder.rows import ROWS_FILE, Rows, row_table, write_rows
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
