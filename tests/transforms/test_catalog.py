from __future__ import annotations

from pathlib import Path

import pytest
from apache_beam.io.filesystem import FileMetadata

from fetch.uris import catalog_base
from store.errors import UserError
from transforms.catalog import Catalog, find_catalog, row_from_file


@pytest.mark.parametrize(
    ("uri", "base"),
    [
        ("/shop/products.csv", "/shop"),
        ("file:///shop/products.jsonl.gz", "/shop"),
        ("/shop/part-*.parquet", "/shop"),
        ("products.csv", ""),
        ("/shop/pictures", "/shop/pictures"),
        ("/shop/pictures/", "/shop/pictures"),
        ("/shop/*/front-?.jpg", "/shop"),
        ("/", "/"),
        ("gs://bucket/shop/products.csv", "gs://bucket/shop"),
        ("https://host/shop/products.csv?signature=a/b", "https://host/shop"),
    ],
)
def test_relative_pictures_start_from_the_catalogs_folder(uri: str, base: str) -> None:
    assert catalog_base(uri) == base


def test_a_picture_in_a_folder_is_an_item_of_the_folders_category() -> None:
    catalog = Catalog("/shop", "/shop/**", "/shop", tables=False)
    row = row_from_file(catalog, FileMetadata("/shop/shoes/red.front.jpg", 1))
    assert (row.item_id, row.image_uri, row.attributes) == (
        "shoes/red.front",
        "shoes/red.front.jpg",
        {"category": "shoes"},
    )


def test_a_folder_is_its_pictures_but_for_hidden_files(tmp_path: Path) -> None:
    (tmp_path / "shoes").mkdir()
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "a.jpg").touch()
    with pytest.raises(UserError, match=r"expected pictures or a \.csv, \.jsonl or \.parquet table, found none"):
        find_catalog(str(tmp_path))
    (tmp_path / "shoes" / "a.jpg").touch()
    assert find_catalog(str(tmp_path)) == Catalog(str(tmp_path), f"{tmp_path}/**", str(tmp_path), tables=False)


def test_a_table_is_read_from_where_it_was_copied_and_its_pictures_from_where_it_came_from(tmp_path: Path) -> None:
    copy = tmp_path / "copy.csv"
    copy.write_text("item_id,image_uri\na,a.jpg\n")
    found = find_catalog("https://host/shop/products.csv", str(copy), "https://host/shop")
    assert found == Catalog("https://host/shop/products.csv", str(copy), "https://host/shop", tables=True)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.csv", None, "no such file"),
        ("empty.csv", "item_id,image_uri\n", "the catalog is empty: it has no rows"),
        ("notes.txt", "hello", r"expected a folder, a glob, \.csv, \.jsonl or \.parquet, found another file"),
    ],
)
def test_what_is_no_catalog_is_refused_before_a_run(tmp_path: Path, name: str, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=f"^--catalog {tmp_path / name}: {said}$"):
        find_catalog(str(tmp_path / name))
