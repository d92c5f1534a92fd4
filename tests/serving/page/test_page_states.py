"""The page when something is missing or slow: pictures, keys, models, versions, room on the screen."""

from __future__ import annotations

import io
import json
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Route
from tests.serving.page.conftest import UPLOAD_LIMIT_BYTES, Opened
from tests.support.browsing import TIMES, expect, give_files, picture, searched, sent, shot, tiles, upload

pytestmark = pytest.mark.browser


def test_a_picture_that_is_gone_has_a_placeholder(open_page: Opened, rows: list[dict[str, str]]) -> None:
    page = open_page(f"#item_id={rows[-1]['item_id']}x")
    expect(page.get_by_role("alert")).to_contain_text("Not found.")
    page.fill("#id", rows[-2]["image_id"])
    searched(page, lambda: page.keyboard.press("Enter"))
    gone = page.get_by_role("img", name="(no picture)")
    gone.scroll_into_view_if_needed()
    expect(gone).to_have_count(1)
    page.fill("#id", rows[-1]["image_id"])
    with page.expect_response(lambda response: response.url.endswith("thumbnail?size=640")) as thumbnail:
        searched(page, lambda: page.keyboard.press("Enter"))
    assert thumbnail.value.status == 404
    expect(page.locator("#stage").get_by_role("img", name="This picture is gone")).to_be_visible()
    expect(tiles(page)).to_have_count(len(rows) - 1)


def test_errors_are_told_and_overcome(
    open_page: Opened, catalog: Path, rows: list[dict[str, str]], tmp_path: Path
) -> None:
    page = open_page()
    alert = page.get_by_role("alert")
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(picture(catalog, rows, 3).read_bytes()[:100])
    assert upload(page, broken).status == 422
    expect(alert).to_contain_text("This picture cannot be used.")
    expect(tiles(page)).to_have_count(0)
    big = tmp_path / "big.jpg"
    big.write_bytes(bytes(UPLOAD_LIMIT_BYTES + 1))
    page.set_input_files("#file", big)
    expect(alert).to_contain_text("at most 1.0 MiB")
    page.route("**/v1/search*", lambda route: route.abort())
    page.set_input_files("#file", picture(catalog, rows, 3))
    expect(alert).to_contain_text("The server cannot be reached.")
    page.unroute("**/v1/search*")
    upload(page, picture(catalog, rows, 3))
    expect(alert).to_be_hidden()
    page.reload()
    expect(alert).to_contain_text("That picture is gone.")


def test_a_busy_server_is_asked_again_and_the_newest_question_wins(
    open_page: Opened, rows: list[dict[str, str]]
) -> None:
    page = open_page()
    asked = []

    def busy(route: Route) -> None:
        asked.append(sent(route.request)["image_id"])
        if asked.count(rows[2]["image_id"]) == 1:
            route.fulfill(status=503, headers={"Retry-After": "1"}, body="{}")
        else:
            route.continue_()

    page.route("**/v1/search", busy)
    page.fill("#id", rows[2]["image_id"])
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text("The server is busy. Trying again in 1 s.")
    expect(tiles(page)).to_have_count(len(rows) - 1)
    assert asked == [rows[2]["image_id"]] * 2
    asked.clear()
    page.fill("#id", rows[2]["image_id"])
    page.keyboard.press("Enter")
    page.locator(".mark").click()
    page.fill("#id", rows[2]["image_id"])
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text("The server is busy. Trying again in 1 s.")
    page.fill("#id", rows[3]["image_id"])
    searched(page, lambda: page.keyboard.press("Enter"))
    expect(page.locator("#caption b")).to_have_text(rows[3]["title"])
    assert asked[-1] == rows[3]["image_id"]


def test_a_key_is_asked_for_and_sent(open_page: Opened, url: str, rows: list[dict[str, str]]) -> None:
    page = open_page()

    def guard(route: Route) -> None:
        if route.request.headers.get("authorization") == "Bearer right":
            route.continue_()
        else:
            route.fulfill(status=401, headers={"WWW-Authenticate": "Bearer"}, body="{}")

    page.route("**/v1/**", guard)
    page.reload()
    dialog = page.get_by_role("dialog")
    for key in ("wrong", "right"):
        expect(dialog).to_be_visible()
        dialog.get_by_label("API key").fill(key)
        page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    expect(page.locator("#about")).to_contain_text(f"Pictures{len(rows)}")
    page.fill("#id", rows[2]["image_id"])
    searched(page, lambda: page.keyboard.press("Enter"))
    expect(tiles(page).first.locator("img")).not_to_have_js_property("naturalWidth", 0)
    assert page.evaluate("[...document.images].every((img) => !img.src || img.src.startsWith('blob:'))")


def test_another_version_is_noticed(open_page: Opened, url: str, rows: list[dict[str, str]]) -> None:
    page = open_page()
    expect(page.locator("#about")).to_contain_text("Version")
    with urllib.request.urlopen(f"{url}/v1/index") as answer:
        index = json.load(answer)

    def swapped(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), "version": "the-next-one"})

    page.route("**/v1/search", swapped)
    page.route("**/v1/index", swapped)
    page.fill("#id", rows[2]["image_id"])
    expect(page.locator("#about")).to_contain_text(index["version"])
    searched(page, lambda: page.keyboard.press("Enter"))
    expect(page.locator("#about")).to_contain_text("the-next-one")


def test_without_a_model_no_picture_is_taken(open_page: Opened, catalog: Path, rows: list[dict[str, str]]) -> None:
    page = open_page()

    def without_model(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), "pictures": False})

    page.route("**/v1/index", without_model)
    page.reload()
    expect(page.get_by_role("button", name="Choose picture")).to_have_count(0)
    give_files(page, "drop", picture(catalog, rows, 2))
    expect(page.get_by_role("alert")).to_contain_text("This server searches by id only")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_all_without_sideways_scrolling(
    open_page: Opened, catalog: Path, rows: list[dict[str, str]], tmp_path: Path, scheme: str
) -> None:
    page = open_page(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True, color_scheme=scheme)

    def sideways_px() -> int:
        return page.evaluate("document.documentElement.scrollWidth - innerWidth")

    expect(page.locator("#start").get_by_role("button", name="Take photo")).to_be_visible()
    assert sideways_px() == 0
    upload(page, picture(catalog, rows, 0))
    page.locator("#filters > summary").click()
    tiles(page).first.locator("summary").click()
    assert sideways_px() == 0
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (max(int(part) for part in ground[4:-1].split(",")) < 60) == (scheme == "dark")
    shot(page, tmp_path, f"phone-{scheme}")


def test_upright_pixels_are_what_a_box_counts(open_page: Opened, tmp_path: Path) -> None:
    lying = Image.new("RGB", (300, 100), (200, 30, 30))
    exif = lying.getexif()
    exif[0x0112] = 6  # stands when turned by 90 degrees
    encoded = io.BytesIO()
    lying.save(encoded, "JPEG", exif=exif)
    path = tmp_path / "turned.jpg"
    path.write_bytes(encoded.getvalue())
    page = open_page()
    upload(page, path)
    frame = page.locator("#stage").bounding_box()
    assert frame is not None
    assert frame["height"] / frame["width"] == pytest.approx(3, rel=0.02)
    page.locator("#stage").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#part")).to_contain_text(f"50 {TIMES} 150 px at 25, 75")
