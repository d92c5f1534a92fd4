"""Reading pages as a browser would, to see what hostile text became."""

from __future__ import annotations

import html.parser
import re
from xml.etree import ElementTree

HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>&amp;"
PIXEL = "data:image/jpeg;base64,AAAA"


class Parsed(html.parser.HTMLParser):
    """A page taken apart.

    Attributes:
        tags: Name and attributes of each element.
        text: All text.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert not self._open, f"left open: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def classed(self, name: str) -> int:
        return sum(name in (attributes.get("class") or "").split() for _, attributes in self.tags)


def read_safe_page(page: str) -> Parsed:
    """Takes a page apart, and checks that it is well-formed, opens offline and runs nothing."""
    for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(svg)
    parsed = Parsed(page)
    assert not parsed.all("script")
    assert not parsed.all("link")
    for _, attributes in parsed.tags:
        assert not [name for name in attributes if name.startswith("on")]
        assert (attributes.get("src") or "data:").startswith("data:")
        assert "href" not in attributes
    assert "url(" not in page
    assert "@import" not in page
    return parsed
