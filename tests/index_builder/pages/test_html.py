from __future__ import annotations

import pytest

from index_builder.pages.html import Html, cards, element, join, page, section, table, tile
from tests.support.pages import HOSTILE, PIXEL, read_safe_page


def test_hostile_text_stays_text_everywhere() -> None:
    content = [
        section(HOSTILE, HOSTILE),
        table([HOSTILE], [[HOSTILE]]),
        cards([(HOSTILE, HOSTILE)]),
        tile(None, HOSTILE, HOSTILE),
        tile(PIXEL, HOSTILE, HOSTILE),
    ]
    parsed = read_safe_page(page(HOSTILE, HOSTILE, *content))
    assert [image["alt"] for image in parsed.all("img")] == [HOSTILE]
    assert parsed.text.count(HOSTILE) == 12


def test_a_page_forbids_the_browser_to_load_or_run_anything() -> None:
    policies = [meta["content"] for meta in read_safe_page(page("t")).all("meta") if "http-equiv" in meta]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_element_writes_names_values_and_markup() -> None:
    assert element("a", "<", element("b", "&"), class_="x", text_anchor='"', r=1 / 3) == (
        '<a class="x" text-anchor="&quot;" r="0.333333">&lt;<b>&amp;</b></a>'
    )
    assert element("img", alt="") == '<img alt=""/>'
    assert join(["<", Html("<br/>")]) == "&lt;<br/>"


def test_numbers_in_tables_are_aligned_and_whole_ones_are_whole() -> None:
    found = table(["a", "b", "c"], [[1_234_567, 0.123456789, "1"]])
    assert '<td class="number">1,234,567</td><td class="number">0.12346</td><td>1</td>' in found


@pytest.mark.parametrize("picture", [None, "https://elsewhere/a.jpg", "javascript:alert(1)", "data:text/html,<b>"])
def test_a_tile_without_a_picture_shows_its_text_instead(picture: str | None) -> None:
    parsed = read_safe_page(tile(picture, "shoes/1.jpg", "one", "", "two"))
    assert parsed.classed("none") == 1
    assert not parsed.all("img")
    assert parsed.text == "shoes/1.jpgonetwo"
    assert len(parsed.all("div")) == 3
