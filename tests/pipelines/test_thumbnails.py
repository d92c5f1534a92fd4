"""Pictures for pages: found where the catalog's run found them, or honestly absent."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from fetch.row_pictures import RowPictures
from index_builder.search.rows import Hit
from pipelines.thumbnails import PageThumbnails
from store.errors import UserError
from store.rejects import Reason, Rejected
from store.shortage import Lack, ShortageError

ROWS = ["a/b.png", "gone.png", "page.png", "there.png"]
PAGE = b"<html></html>"


def row(image_uri: str) -> Hit:
    return Hit(image_uri, "item", image_uri, 1.0, {}, ROWS.index(image_uri))


def open_on(base: str, fetch: Callable[[str], bytes]) -> PageThumbnails:
    """Thumbnails of rows whose pictures are as they were embedded."""
    digests = [hashlib.sha256(PAGE if name == "page.png" else encoded()).hexdigest() for name in ROWS]
    return PageThumbnails(RowPictures(fetch, base, digests.__getitem__))


def encoded() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(stream, "PNG")
    return stream.getvalue()


def test_a_picture_is_fetched_once_below_the_base():
    asked: list[str] = []

    def fetch(uri: str) -> bytes:
        asked.append(uri)
        return encoded()

    thumbnails = open_on("/catalog", fetch)
    first, again = thumbnails(row("a/b.png")), thumbnails(row("a/b.png"))
    assert asked == ["/catalog/a/b.png"]
    assert first == again
    assert str(first).startswith("data:image/")


def test_what_cannot_be_had_or_decoded_is_none():
    def fetch(uri: str) -> bytes:
        if uri.endswith("gone.png"):
            raise Rejected(Reason.NOT_FOUND, "no file")
        return PAGE

    thumbnails = open_on("/catalog", fetch)
    assert thumbnails(row("gone.png")) is None
    assert thumbnails(row("page.png")) is None


def test_a_page_says_when_it_has_no_pictures_at_all(tmp_path: Path, caplog):
    def fetch(uri: str) -> bytes:
        if "gone" in uri:
            raise Rejected(Reason.NOT_FOUND, "no file")
        return encoded()

    thumbnails = open_on("/catalog", fetch)
    thumbnails(row("gone.png"))
    thumbnails.write_page(tmp_path / "page.html", "<p>é")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == "<p>é"
    assert "none could be read below '/catalog'" in caplog.text
    caplog.clear()
    thumbnails(row("there.png"))
    thumbnails.write_page(tmp_path / "page.html", "")
    assert not caplog.text


def test_a_page_that_cannot_be_written_is_one_line(tmp_path: Path):
    with pytest.raises(UserError, match="expected a file that can be written"):
        open_on("", lambda _: b"").write_page(tmp_path / "none" / "page.html", "")


@pytest.mark.parametrize("error", [ShortageError.of(Lack.DESCRIPTORS), MemoryError()], ids=repr)
def test_a_page_is_made_also_where_the_process_runs_short(error):
    def fetch(uri: str) -> bytes:
        raise error

    assert open_on("/catalog", fetch)(row("there.png")) is None
