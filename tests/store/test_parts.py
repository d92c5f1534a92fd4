from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from store.location import Store
from store.parts import ROW_GROUP_ROWS, PartWriter, open_part
from store.schema import REJECTED_SCHEMA, STALE_SCHEMA, embedding_schema

SCHEMA = embedding_schema(4, "f" * 64)


def table(start: int, rows: int) -> pa.Table:
    names = [f"{number:06d}" for number in range(start, start + rows)]
    columns = dict.fromkeys(("image_id", "item_id", "image_uri", "source_version", "content_sha256"), names)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(4 * rows, dtype=np.float32)), 4)
    numbers = pa.array([1] * rows, pa.int32())
    attributes = pa.array([[("colour", "red")]] * rows, SCHEMA.field("attributes").type)
    made = {**columns, "width": numbers, "height": numbers, "attributes": attributes, "embedding": vectors}
    made["embedding_norm"] = pa.array([1.0] * rows, pa.float32())
    return pa.table([pa.array(made[field.name], field.type) for field in SCHEMA], schema=SCHEMA)


@pytest.mark.parametrize("sizes", [[5], [ROW_GROUP_ROWS], [5000], [3000, 1, 1500], [7] * 600])
def test_tables_of_any_size_arrive_whole_and_in_order(tmp_path, sizes):
    store, start = Store(str(tmp_path)), 0
    writer = PartWriter(store, "embeddings/x", "part-0.parquet", SCHEMA)
    for rows in sizes:
        writer.add_table(table(start, rows))
        start += rows
    part = writer.close()
    assert part is not None
    assert (part.path, part.rows, part.bytes) == (
        "part-0.parquet",
        start,
        store.size_bytes("embeddings/x/part-0.parquet"),
    )
    with open_part(store, "embeddings/x", part.path) as parquet:
        assert parquet.read()["image_id"].to_pylist() == [f"{number:06d}" for number in range(start)]
        groups = [parquet.metadata.row_group(number).num_rows for number in range(parquet.metadata.num_row_groups)]
    full, rest = divmod(start, ROW_GROUP_ROWS)
    assert groups == [ROW_GROUP_ROWS] * full + [rest] * (rest > 0)


def test_no_rows_no_file(tmp_path):
    store = Store(str(tmp_path))
    assert PartWriter(store, "embeddings/x", "part-0.parquet", SCHEMA).close() is None
    assert store.list("embeddings") == []


def test_the_columns_that_others_read():
    identity = [("image_id", pa.string()), ("item_id", pa.string()), ("image_uri", pa.string())]
    causes = [*identity, ("stage", pa.string()), ("reason", pa.string()), ("detail", pa.string())]
    assert [(field.name, field.type) for field in REJECTED_SCHEMA] == causes
    assert [(field.name, field.type) for field in STALE_SCHEMA] == [*causes, ("stale_runs", pa.int32())]
    assert [(field.name, str(field.type)) for field in SCHEMA] == [
        *((name, str(kind)) for name, kind in identity),
        ("source_version", "string"),
        ("content_sha256", "string"),
        ("width", "int32"),
        ("height", "int32"),
        ("attributes", "map<string, string>"),
        ("embedding_norm", "float"),
        ("embedding", "fixed_size_list<item: float>[4]"),
    ]
