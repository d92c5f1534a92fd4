from __future__ import annotations

from index_builder.pages.search_sheet import SheetRow, sheet_html
from index_builder.search.rows import Hit
from tests.support.pages import HOSTILE, PIXEL, read_safe_page

HIT = Hit("image 1", "item 1", "a/1.jpg", 0.98765, {"colour": "red", "brand": "x & y"}, 3)


def test_a_query_stands_beside_its_neighbours() -> None:
    pictures = {"a/1.jpg": PIXEL}
    other = Hit("image 2", "item 2", "a/2.jpg", 0.5, {}, 4)
    parsed = read_safe_page(
        sheet_html([SheetRow("my shoe", PIXEL, [HIT, other])], lambda hit: pictures.get(hit.image_uri))
    )
    assert (parsed.classed("tile"), parsed.classed("query"), parsed.classed("none")) == (3, 1, 1)
    assert [image["alt"] for image in parsed.all("img")] == ["my shoe", "a/1.jpg"]
    for text in ("my shoe", "0.9877", "item 1", "brand: x & y", "colour: red", "0.5000", "item 2", "a/2.jpg"):
        assert text in parsed.text


def test_a_query_without_answers_says_so() -> None:
    parsed = read_safe_page(sheet_html([SheetRow("my shoe", None, [])], lambda _: None))
    assert "Nothing was found." in parsed.text


def test_hostile_ids_stay_text() -> None:
    hit = Hit(HOSTILE, HOSTILE, HOSTILE, 1.0, {HOSTILE: HOSTILE}, 0)
    parsed = read_safe_page(sheet_html([SheetRow(HOSTILE, HOSTILE, [hit])], lambda _: HOSTILE))
    assert parsed.text.count(HOSTILE) == 6
