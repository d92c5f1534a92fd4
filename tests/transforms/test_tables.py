from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.errors import UserError
from transforms.rows import CatalogRow, CatalogRowCoder, default_image_id, row_from_record
from transforms.tables import plan_spans, read_span

_CELLS = st.text(st.sampled_from('a,"\n\r é0'), max_size=6)


def _rows(path: Path, kind: str, span_bytes: int = 1 << 20) -> list[CatalogRow]:
    return [row for span in plan_spans(str(path), kind, span_bytes) for row in read_span(span)]


@given(st.lists(st.tuples(_CELLS, _CELLS), max_size=30), st.integers(1, 60))
def test_csv_spans_give_the_rows_of_the_whole_table(tmp_path_factory, cells, span_bytes):
    path = tmp_path_factory.mktemp("csv") / "catalog.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image_uri", "title"])
        writer.writerows([f"p{index}{left}", right] for index, (left, right) in enumerate(cells))
    rows = _rows(path, "csv", span_bytes)
    assert [(row.image_uri, row.attributes.get("title", "")) for row in rows] == [
        (f"p{index}{left}".strip(), right) for index, (left, right) in enumerate(cells)
    ]
    assert len({row.position for row in rows}) == len(rows)
    assert sorted(row.position for row in rows) == [row.position for row in rows]


@given(
    st.lists(st.dictionaries(st.sampled_from(["image_uri", "title", "item_id"]), _CELLS), max_size=30),
    st.integers(1, 60),
)
def test_jsonl_spans_give_the_rows_of_the_whole_table(tmp_path_factory, records, span_bytes):
    path = tmp_path_factory.mktemp("jsonl") / "catalog.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert [(row.image_uri, row.attributes) for row in _rows(path, "jsonl", span_bytes)] == [
        (row.image_uri, row.attributes) for row in (row_from_record(record, "") for record in records)
    ]


def test_parquet_is_read_a_row_group_at_a_time(tmp_path):
    path = tmp_path / "catalog.parquet"
    pq.write_table(
        pa.table({"image_uri": [f"{n}.jpg" for n in range(10)], "price": list(range(10))}), path, row_group_size=3
    )
    spans = list(plan_spans(str(path), "parquet"))
    assert [(span.start, span.first_row) for span in spans] == [(0, 0), (1, 3), (2, 6), (3, 9)]
    assert [(row.item_id, row.attributes) for span in spans for row in read_span(span)] == [
        (str(n), {"price": str(n)}) for n in range(10)
    ]


def test_broken_rows_are_faults_and_leave_the_others_alone(tmp_path):
    path = tmp_path / "catalog.csv"
    path.write_bytes(b"\xef\xbb\xbfimage_uri,title\na.jpg,ok\nb.jpg\n,nothing\nc.jpg,caf\xe9\nd.jpg,x,y\ne.jpg,fine\n")
    faults = {row.image_uri: row.fault for row in _rows(path, "csv")}
    assert faults["a.jpg"] == faults["e.jpg"] == ""
    assert "expected 2 fields, found 1" in faults["b.jpg"]
    assert "image_uri is empty" in faults[""]
    assert "title is not valid UTF-8" in faults["c.jpg"]
    assert "expected 2 fields, found 3" in faults["d.jpg"]


def test_jsonl_lines_that_are_no_objects_are_faults(tmp_path):
    path = tmp_path / "catalog.jsonl"
    path.write_text('{"image_uri": "a.jpg", "tags": ["x"], "n": 3}\nnot json\n[1]\n\n')
    rows = _rows(path, "jsonl")
    assert rows[0].attributes == {"tags": '["x"]', "n": "3"}
    assert ["expected a JSON object" in row.fault for row in rows] == [False, True, True]


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("catalog.csv", b"item_id,url\n1,a.jpg\n", "expected a column named image_uri, found item_id, url"),
        ("catalog.csv", b"", "expected a column named image_uri, found none"),
        ("catalog.csv", "image_uri\na.jpg\n".encode("utf-16"), "found UTF-16"),
        ("catalog.csv", b"image_uri,caf\xe9\na.jpg,1\n", "header in another encoding"),
        ("catalog.csv", b"image_uri,a,a\nx.jpg,1,2\n", "a more than once"),
        ("catalog.parquet", b"image_uri\na.jpg\n", "expected a Parquet file"),
    ],
)
def test_a_wrong_table_is_refused_whole(tmp_path, name, data, says):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(UserError, match=says):
        list(plan_spans(str(path), name.rsplit(".", 1)[1]))


def test_ids_have_defaults():
    row = row_from_record({"image_uri": "shoes/red.v1.jpg", "category": "shoes"}, "t row 1")
    assert row.item_id == "shoes/red.v1"
    assert row.image_id == default_image_id("shoes/red.v1", "shoes/red.v1.jpg")
    assert default_image_id("a", "b.jpg") == "1cc66dd2b2b69b9a6f4f"  # printf "a\0b.jpg" | sha256sum
    assert len(row.image_id) == 20


def test_the_coder_gives_the_row_back():
    row = row_from_record({"image_uri": "é.jpg", "title": "x"}, "t row 1", "broken")
    assert CatalogRowCoder().decode(CatalogRowCoder().encode(row)) == row
