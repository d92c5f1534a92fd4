"""Pictures for pages: found where the catalog's run found them, or honestly absent."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from pipelines.thumbnails import Thumbnails
from store.errors import UserError
from store.rejects import Reason, Rejected
from store.shortage import Lack, ShortageError
from transforms.catalog import catalog_base, find_catalog


def encoded() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize(
    "uri",
    ["{folder}/t.csv", "file://{folder}/t.csv", "{folder}", "{folder}/", "{folder}/*.png", "{folder}/sh*s/a.png",
     "{folder}/*.csv", "file://{folder}"],
)  # fmt: skip
def test_the_base_told_by_the_uri_is_the_one_the_run_used(tmp_path, uri):
    (tmp_path / "shoes").mkdir()
    for path in (tmp_path / "a.png", tmp_path / "shoes" / "a.png"):
        path.write_bytes(encoded())
    (tmp_path / "t.csv").write_text("image_uri\na.png\n", encoding="utf-8")
    uri = uri.format(folder=tmp_path)
    assert catalog_base(uri) == find_catalog(uri).base


def test_the_base_of_a_table_behind_http_is_its_folder():
    assert catalog_base("https://shop.example/feeds/all.csv?day=1/2") == "https://shop.example/feeds"


def test_a_picture_is_fetched_once_below_the_base():
    asked: list[str] = []

    def fetch(uri: str) -> bytes:
        asked.append(uri)
        return encoded()

    thumbnails = Thumbnails("/catalog", fetch)
    first, again = thumbnails("a/b.png"), thumbnails("a/b.png")
    assert asked == ["/catalog/a/b.png"]
    assert first == again
    assert str(first).startswith("data:image/")


def test_what_cannot_be_had_or_decoded_is_none():
    def fetch(uri: str) -> bytes:
        if uri.endswith("gone.png"):
            raise Rejected(Reason.NOT_FOUND, "no file")
        return b"<html></html>"

    thumbnails = Thumbnails("/catalog", fetch)
    assert thumbnails("gone.png") is None
    assert thumbnails("page.png") is None


def test_a_page_says_when_it_has_no_pictures_at_all(tmp_path: Path, caplog):
    def fetch(uri: str) -> bytes:
        if "gone" in uri:
            raise Rejected(Reason.NOT_FOUND, "no file")
        return encoded()

    thumbnails = Thumbnails("/catalog", fetch)
    thumbnails("gone.png")
    thumbnails.write_page(tmp_path / "page.html", "<p>é")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == "<p>é"
    assert "none could be read below '/catalog'" in caplog.text
    caplog.clear()
    thumbnails("there.png")
    thumbnails.write_page(tmp_path / "page.html", "")
    assert not caplog.text


def test_a_page_that_cannot_be_written_is_one_line(tmp_path: Path):
    with pytest.raises(UserError, match="expected a file that can be written"):
        Thumbnails("", lambda _: b"").write_page(tmp_path / "none" / "page.html", "")


@pytest.mark.parametrize("error", [ShortageError.of(Lack.DESCRIPTORS), MemoryError()], ids=repr)
def test_a_page_is_made_also_where_the_process_runs_short(error):
    def fetch(uri: str) -> bytes:
        raise error

    assert Thumbnails("/catalog", fetch)("a.png") is None
