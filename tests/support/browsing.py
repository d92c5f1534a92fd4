"""What a person sees and does on the page, in a browser."""

from __future__ import annotations

import base64
import mimetypes
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page, Request, Response


api = pytest.importorskip("playwright.sync_api", reason="needs playwright: the extra [browser]")
expect = api.expect
TIMES = "\N{MULTIPLICATION SIGN}"


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
