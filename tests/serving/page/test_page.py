"""The page, used by a browser on the real server: every way to search, and what a catalog may do to it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import pytest
from PIL import Image

from tests.serving.page.conftest import HOSTILE, ITEMS, VIEWS, Opened
from tests.support.browsing import (
    TIMES,
    expect,
    filter_by,
    give_files,
    image_ids,
    picture,
    searched,
    sent,
    shot,
    tiles,
    titles,
    upload,
)

pytestmark = pytest.mark.browser


def test_a_chosen_picture_finds_itself_and_is_described(
    open_page: Opened, catalog: Path, rows: list[dict[str, str]], tmp_path: Path
) -> None:
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    expect(page.get_by_role("heading", name="What looks like this?")).to_be_visible()
    expect(page.locator("#untrained")).to_contain_text("similarities mean nothing")
    expect(page.locator("#about")).to_contain_text(f"Pictures{len(rows)}")
    with page.expect_file_chooser() as chooser:
        page.locator("#start").get_by_role("button", name="Choose picture").click()
    searched(page, lambda: chooser.value.set_files(picture(catalog, rows, 5)))
    assert image_ids(page)[0] == rows[5]["image_id"]
    expect(tiles(page)).to_have_count(len(rows))
    expect(page.get_by_role("status")).to_have_text(f"{len(rows)} pictures, most alike first")
    first = tiles(page).first
    expect(first.locator(".score")).to_contain_text("1.000")
    expect(first.get_by_role("img", name=rows[5]["title"])).to_be_visible()
    expect(page.locator("#stage img")).to_be_visible()
    first.locator("summary").click()
    expect(first.locator("dl")).to_contain_text(f"category{rows[5]['category']}")
    expect(first.locator("dl")).not_to_contain_text(rows[5]["title"])
    first.get_by_role("button", name="Copy id").click()
    expect(first.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == rows[5]["item_id"]
    shot(page, tmp_path, "chosen")


def test_a_picture_can_be_dropped_and_pasted(open_page: Opened, catalog: Path, rows: list[dict[str, str]]) -> None:
    page = open_page()
    give_files(page, "dragover", picture(catalog, rows, 2))
    expect(page.locator("#drop")).to_be_visible()
    searched(page, lambda: give_files(page, "drop", picture(catalog, rows, 2)))
    expect(page.locator("#drop")).to_be_hidden()
    assert image_ids(page)[0] == rows[2]["image_id"]
    searched(page, lambda: give_files(page, "paste", picture(catalog, rows, 7)))
    assert image_ids(page)[0] == rows[7]["image_id"]
    expect(page.locator("#caption")).to_contain_text(picture(catalog, rows, 7).name)


def test_results_are_searched_from_and_back_leads_back(
    open_page: Opened, catalog: Path, rows: list[dict[str, str]]
) -> None:
    page = open_page()
    upload(page, picture(catalog, rows, 4))
    from_upload = titles(page)
    searched(page, tiles(page).nth(1).locator("> a").click)
    expect(tiles(page)).to_have_count(len(rows) - 1)
    expect(page.locator("#caption b")).to_have_text(from_upload[1])
    similar = searched(page, page.locator("#kinds").get_by_role("link", name="Similar items").click)
    assert "/similar?" in similar.url
    expect(page.get_by_role("status")).to_have_text(f"{ITEMS - 1} items, most alike first")
    expect(page.locator("#group")).to_be_disabled()
    searched(page, page.go_back)
    expect(tiles(page)).to_have_count(len(rows) - 1)
    searched(page, page.go_back)
    expect(page.locator("#caption")).to_contain_text(picture(catalog, rows, 4).name)
    assert titles(page) == from_upload


def test_ids_are_found_by_keyboard_and_shared_by_link(open_page: Opened, rows: list[dict[str, str]]) -> None:
    page = open_page()
    page.keyboard.press("/")
    expect(page.locator("#id")).to_be_focused()
    page.keyboard.type(rows[6]["item_id"])
    assert sent(searched(page, lambda: page.keyboard.press("Enter")).request)["item_id"] == rows[6]["item_id"]
    page.keyboard.press("/")
    page.keyboard.type(rows[6]["image_id"])
    assert sent(searched(page, lambda: page.keyboard.press("Enter")).request)["image_id"] == rows[6]["image_id"]
    shown = titles(page)
    expect(page.locator("#stage img")).to_be_visible()
    shared = open_page(page.evaluate("location.hash"))
    expect(tiles(shared)).to_have_count(len(shown))
    assert titles(shared) == shown
    nowhere = open_page("#id=nowhere")
    expect(nowhere.get_by_role("alert")).to_contain_text("Not found.")
    expect(nowhere.get_by_role("alert")).to_contain_text("nowhere")


def test_a_box_is_drawn_moved_and_cleared_with_the_mouse(
    open_page: Opened, catalog: Path, rows: list[dict[str, str]]
) -> None:
    page = open_page()
    upload(page, picture(catalog, rows, 3))
    with Image.open(picture(catalog, rows, 3)) as original:
        width, height = original.size
    frame = page.locator("#stage").bounding_box()
    assert frame is not None

    def drag(start: tuple[float, float], end: tuple[float, float]) -> list[int]:
        def pull() -> None:
            for at, act in ((start, page.mouse.down), (end, page.mouse.up)):
                page.mouse.move(frame["x"] + at[0] * frame["width"], frame["y"] + at[1] * frame["height"])
                act()

        asked = searched(page, pull).request.url
        return [int(number) for number in unquote(asked).partition("crop=")[2].split(",")]

    drawn = drag((0.25, 0.5), (0.75, 0.9))
    expected = [width / 4, height / 2, width / 2, height * 0.4]
    assert drawn == pytest.approx(expected, abs=3)
    moved = drag((0.5, 0.7), (0.4, 0.2))
    assert moved == pytest.approx([drawn[0] - 0.1 * width, 0, *drawn[2:]], abs=3)
    assert moved[2:] == drawn[2:]
    resized = drag((0.65, 0.4), (0.95, 0.95))
    assert resized == pytest.approx([moved[0], 0, 0.8 * width, 0.95 * height], abs=6)
    expect(page.locator("#part")).to_contain_text(f"{resized[2]} {TIMES} {resized[3]} px")
    whole = searched(page, page.get_by_role("button", name="Whole picture").click)
    assert "crop" not in whole.request.url
    expect(page.locator("#part")).to_be_hidden()


def test_a_box_is_made_with_the_keyboard(open_page: Opened, catalog: Path, rows: list[dict[str, str]]) -> None:
    page = open_page()
    with Image.open(picture(catalog, rows, 1)) as original:
        width, height = original.size
    page.fill("#id", rows[1]["image_id"])
    searched(page, lambda: page.keyboard.press("Enter"))
    expect(page.locator("#stage img")).to_be_visible()
    page.locator("#stage").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#part")).to_contain_text("px at")
    before = page.locator("#part span").inner_text()
    for key in ("ArrowRight", "ArrowUp", "Shift+ArrowDown", "Shift+ArrowLeft"):
        page.keyboard.press(key)
    assert page.locator("#part span").inner_text() != before
    answer = searched(page, lambda: page.keyboard.press("Enter"))
    crop = sent(answer.request)["crop"]
    assert (
        page.locator("#part span").inner_text()
        == f"{crop['width']} {TIMES} {crop['height']} px at {crop['x']}, {crop['y']}"
    )
    assert 0 < crop["width"] < width / 2 + 1
    assert crop["height"] > height / 2
    cleared = searched(page, lambda: page.keyboard.press("Escape"))
    assert "crop" not in sent(cleared.request)


def test_filters_groups_and_counts(open_page: Opened, catalog: Path, rows: list[dict[str, str]]) -> None:
    page = open_page()
    upload(page, picture(catalog, rows, 8))
    category = rows[8]["category"]
    expected = sum(row["category"] == category for row in rows)
    searched(page, lambda: filter_by(page, "category").select_option(category))
    expect(tiles(page)).to_have_count(expected)
    expect(filter_by(page, "category").locator("option:checked")).to_have_text(f"{category} ({expected})")
    searched(page, lambda: page.get_by_label("One per item").check())
    assert "group_by=item" in page.evaluate("location.hash")
    expect(tiles(page)).to_have_count(expected // VIEWS)
    sku = filter_by(page, "sku")
    assert page.locator(f"#{sku.get_attribute('list')} option").count() == len(rows)
    sku.fill("no such sku")
    searched(page, lambda: sku.press("Enter"))
    expect(page.get_by_role("status")).to_have_text("Nothing here matches the filters.")
    searched(page, page.get_by_role("button", name="Remove the filter sku").click)
    searched(page, page.get_by_role("button", name="Remove the filter category").click)
    expect(tiles(page)).to_have_count(ITEMS)
    searched(page, lambda: page.get_by_label("One per item").uncheck())
    searched(page, lambda: page.get_by_label("Show").select_option("12"))
    expect(tiles(page)).to_have_count(12)


def test_catalog_values_are_text(open_page: Opened, catalog: Path, rows: list[dict[str, str]]) -> None:
    page = open_page()
    upload(page, picture(catalog, rows, 0))
    assert titles(page)[0] == HOSTILE
    tiles(page).first.locator("summary").click()
    searched(page, lambda: filter_by(page, "colour").select_option(HOSTILE))
    expect(page.locator("#chips")).to_contain_text(HOSTILE)
    expect(tiles(page)).to_have_count(VIEWS)
    searched(page, tiles(page).first.locator("> a").click)
    expect(page.locator("#caption b")).to_have_text(HOSTILE)
    assert page.locator("img[src=x], main script").count() == 0
    assert page.title() != "run"
