"""A catalog with hostile values, a server on it, and a browser."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from index_builder.build.builder import build_index
from index_builder.build.request import BuildRequest
from samples.catalog import draw_catalog
from serving.options import ServeOptions
from store.location import Store
from tests.support.serving import running
from tests.support.small_embed import embed_again

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request

HOSTILE = '<img src=x onerror="document.title=\'run\'"><script>document.title="run"</script>'
ITEMS, VIEWS = 8, 3
UPLOAD_LIMIT_BYTES = 1 << 20
Opened = Callable[..., "Page"]


@pytest.fixture(scope="package")
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


@pytest.fixture(scope="package")
def rows(catalog: Path) -> list[dict[str, str]]:
    with catalog.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="package")
def url(catalog: Path, rows: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server over an index of the catalog, whose last picture is gone since."""
    store = tmp_path_factory.mktemp("store")
    embed_again(catalog, store, full=True)
    build_index(Store(str(store)), BuildRequest(k=3, target_recall=0.5))
    (catalog.parent / rows[-1]["image_uri"]).unlink()
    with running(ServeOptions(str(store), poll_interval_s=3600, max_upload_bytes=UPLOAD_LIMIT_BYTES)) as server:
        yield server.url


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    binary = os.environ.get("SHELFMARK_CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        yield browser
        browser.close()


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
