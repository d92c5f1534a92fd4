"""URIs of catalogs: where their pictures' relative ones start from."""

from __future__ import annotations

import pytest

from fetch.uris import catalog_base, table_kind
from tests.support.hostile import encoded, photo
from transforms.catalog import find_catalog


@pytest.mark.parametrize(
    "uri",
    ["{folder}/t.csv", "file://{folder}/t.csv", "{folder}", "{folder}/", "{folder}/*.png", "{folder}/sh*s/a.png",
     "{folder}/*.csv", "file://{folder}"],
)  # fmt: skip
def test_the_base_told_by_the_uri_is_the_one_the_run_used(tmp_path, uri):
    (tmp_path / "shoes").mkdir()
    for path in (tmp_path / "a.png", tmp_path / "shoes" / "a.png"):
        path.write_bytes(encoded(photo(40, 30), "PNG"))
    (tmp_path / "t.csv").write_text("image_uri\na.png\n", encoding="utf-8")
    uri = uri.format(folder=tmp_path)
    assert catalog_base(uri) == find_catalog(uri).base


def test_the_base_of_a_table_behind_http_is_its_folder():
    assert catalog_base("https://shop.example/feeds/all.csv?day=1/2") == "https://shop.example/feeds"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("a.csv", "csv"),
        ("A.CSV.GZ", "csv"),
        ("a.ndjson.bz2", "jsonl"),
        ("a.parquet", "parquet"),
        ("a.gz", None),
        ("csv", None),
    ],
)
def test_a_table_is_told_by_its_name(path, kind):
    assert table_kind(path) == kind
