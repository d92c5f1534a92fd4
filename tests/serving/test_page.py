"""The page, used by a browser on the real server: every way to search, and what a catalog may do to it."""

from __future__ import annotations

import base64
import csv
import io
import json
import mimetypes
import os
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest
from PIL import Image

from index_builder.build.builder import build_index
from index_builder.build.request import BuildRequest
from samples.catalog import draw_catalog
from serving.options import ServeOptions
from store.location import Store
from tests.support.serving import running
from tests.support.small_embed import embed_again

if TYPE_CHECKING:
    from playwright.sync_api import (
        Browser,
        BrowserContext,
        ConsoleMessage,
        Locator,
        Page,
        Request,
        Response,
        Route,
    )

api = pytest.importorskip("playwright.sync_api", reason="needs playwright: the extra [browser]")
expect, sync_playwright = api.expect, api.sync_playwright

pytestmark = pytest.mark.browser

HOSTILE = '<img src=x onerror="document.title=\'run\'"><script>document.title="run"</script>'
ITEMS, VIEWS = 8, 3
TIMES = "\N{MULTIPLICATION SIGN}"
UPLOAD_LIMIT_BYTES = 1 << 20


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn catalog with hostile values in its first row, ids that need escaping, and many distinct values."""
    table = draw_catalog(tmp_path_factory.mktemp("catalog"), ITEMS, VIEWS, seed=5, processes=1)
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        row |= {"image_id": f"shelf {number}/á?#%&=+", "sku": f"sku-{number}"}
    for row in rows[:VIEWS]:
        row |= {"title": HOSTILE, "colour": HOSTILE}
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return table


@pytest.fixture(scope="module")
def rows(catalog: Path) -> list[dict[str, str]]:
    with catalog.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def url(catalog: Path, rows: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server over an index of the catalog, whose last picture is gone since."""
    store = tmp_path_factory.mktemp("store")
    embed_again(catalog, store, full=True)
    build_index(Store(str(store)), BuildRequest(k=3, target_recall=0.5))
    (catalog.parent / rows[-1]["image_uri"]).unlink()
    with running(ServeOptions(str(store), poll_interval_s=3600, max_upload_bytes=UPLOAD_LIMIT_BYTES)) as server:
        yield server.url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    binary = os.environ.get("SHELFMARK_CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        yield browser
        browser.close()


Opened = Callable[..., "Page"]


@pytest.fixture
def open_page(browser: Browser, url: str) -> Iterator[Opened]:
    """Opens the page in a fresh context; fails for whatever a browser complains of, and for requests elsewhere.

    Answers of 4xx and 5xx, of which it complains too, are the tests' own business.
    """
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            complaints.append(message.text)

    def check(request: Request) -> None:
        if not request.url.startswith((f"{url}/", f"blob:{url}/")):
            complaints.append(f"asked elsewhere: {request.url}")

    def open_at(hash_: str = "", **options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        context.set_default_timeout(5_000)
        page = context.new_page()
        page.on("console", note)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", check)
        page.goto(f"{url}/{hash_}")
        return page

    yield open_at
    for context in contexts:
        context.close()
    assert complaints == []


def tiles(page: Page) -> Locator:
    return page.locator("#grid > li")


def titles(page: Page) -> list[str]:
    return tiles(page).locator("summary").all_inner_texts()


def image_ids(page: Page) -> list[str]:
    """Of the answers shown, as their links have them."""
    read = "links => links.map((link) => new URLSearchParams(link.hash.slice(1)).get('image_id'))"
    ids: list[str] = tiles(page).locator("> a").evaluate_all(read)
    return ids


def filter_by(page: Page, name: str) -> Locator:
    return page.get_by_role("combobox", name=name, exact=True)


def picture(catalog: Path, rows: list[dict[str, str]], number: int) -> Path:
    return catalog.parent / rows[number]["image_uri"]


def searched(page: Page, do: Callable[[], Any]) -> Response:
    """What the server answered to the search that an action began; its results are shown then."""
    with page.expect_response(lambda response: "/v1/search" in response.url or "/similar?" in response.url) as answer:
        do()
    expect(page.locator("#results")).to_have_attribute("aria-busy", "false")
    return answer.value


def sent(request: Request) -> dict[str, Any]:
    """The JSON document of a request."""
    document: dict[str, Any] = request.post_data_json or {}
    return document


def upload(page: Page, path: Path) -> Response:
    return searched(page, lambda: page.set_input_files("#file", path))


def shot(page: Page, tmp_path: Path, name: str) -> None:
    """Leaves a picture of the page, where a person looks at it too if SHELFMARK_SCREENSHOTS names a folder."""
    page.evaluate(
        """Promise.all([...document.images]
            .filter((img) => !img.complete && img.getBoundingClientRect().top < innerHeight)
            .map((img) => new Promise((done) => ['load', 'error'].forEach((name) => img.addEventListener(name, done)))))
            .then(() => null)"""
    )
    page.screenshot(path=tmp_path / f"{name}.png")
    assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    if folder := os.environ.get("SHELFMARK_SCREENSHOTS"):
        shutil.copy(tmp_path / f"{name}.png", folder)


def give_files(page: Page, event: str, path: Path) -> None:
    """Dispatches a drop or a paste with a file, as a browser does it."""
    page.evaluate(
        """([event, name, type, base64]) => {
            const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], name, { type }));
            const options = { bubbles: true, cancelable: true };
            document.body.dispatchEvent(event === 'paste'
                ? new ClipboardEvent(event, { ...options, clipboardData: transfer })
                : new DragEvent(event, { ...options, dataTransfer: transfer }));
        }""",
        [event, path.name, mimetypes.types_map[path.suffix], base64.b64encode(path.read_bytes()).decode()],
    )


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
