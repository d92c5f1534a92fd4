"""Self-contained pages: no scripts, nothing loaded from elsewhere, and text that cannot become markup.

Text is escaped wherever it enters an element, unless it is `Html`, which only these functions make.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

__all__ = ["Html", "cards", "element", "join", "page", "section", "table", "tile"]

_VOID = {"br", "img", "meta"}

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2127; --faint: #667080; --line: #d5dae1; --back: #fff; --card: #f4f6f8;
  --mark: #c8102e; --s0: #1769c4; --s1: #d9730d; --s2: #2c8a4b; --s3: #8d4fc9; --s4: #b8902a; --s5: #0f8f96;
  --s6: #d0508f; --s7: #7a5a46; --other: #a3abb6; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --faint: #98a2b0; --line: #3a414c; --back: #15181d;
  --card: #1f242b; --mark: #ff6478; --s0: #64a8f5; --s1: #f4a04f; --s2: #62c284; --s3: #c196f0; --s4: #e0c063;
  --s5: #55c6cc; --s6: #f08fbf; --s7: #c09b84; --other: #69727e; } }
body { max-width: 76rem; margin: 0 auto; padding: 1rem 1.5rem 4rem; color: var(--ink); background: var(--back);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
p { margin: .3rem 0; } .faint { color: var(--faint); } .bad { color: var(--mark); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; } caption { text-align: left; color: var(--faint); }
th, td { padding: .2rem .9rem .2rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
td { overflow-wrap: anywhere; }
.cards, .tiles { display: flex; flex-wrap: wrap; gap: .7rem; margin: .6rem 0; }
.card { background: var(--card); border-radius: .4rem; padding: .5rem .9rem; }
.card b { display: block; font-size: 1.25rem; }
figure.tile { width: 10rem; margin: 0; overflow-wrap: anywhere; font-size: .8rem; line-height: 1.35; }
.tile img, .tile .none { display: flex; width: 10rem; height: 10rem; box-sizing: border-box; border-radius: .3rem;
  object-fit: contain; background: var(--card); }
.tile .none { align-items: center; justify-content: center; overflow: hidden; padding: .5rem; color: var(--faint); }
.query img, .query .none { outline: 3px solid var(--s0); outline-offset: -3px; }
.pair { display: flex; gap: .3rem; padding: .5rem; border: 1px solid var(--line); border-radius: .4rem; }
svg { max-width: 100%; height: auto; font: 12px system-ui, sans-serif; } svg text { fill: var(--ink); }
svg .grid { stroke: var(--line); } svg .line { fill: none; stroke: var(--s0); stroke-width: 1.5; }
svg .target { stroke: var(--mark); stroke-dasharray: 5 4; } svg .chosen { fill: none; stroke: var(--mark);
  stroke-width: 2.5; }
.legend span { margin-right: 1rem; white-space: nowrap; } .swatch::before { content: "\\25CF"; margin-right: .3rem; }
"""
_COLOURS = [f"s{number}" for number in range(8)] + ["other"]
_STYLE += "".join(
    f"svg .{name} {{ fill: var(--{name}); }} .swatch.{name}::before {{ color: var(--{name}); }}\n" for name in _COLOURS
)


class Html(str):
    """Markup, as against text that is still to be escaped."""

    __slots__ = ()


def join(parts: Iterable[str]) -> Html:
    """Parts one after another; those that are not `Html` are escaped."""
    return Html("".join(part if isinstance(part, Html) else html.escape(part) for part in parts))


def element(tag: str, *children: str, **attributes: str | float) -> Html:
    """An element, well-formed as HTML and as XML.

    Args:
        tag: Its name.
        children: Its content.
        attributes: By name, "_" standing for "-", and one at the end left out (`class_`). Values are escaped.
    """
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(_attribute(value))}"'
        for name, value in attributes.items()
    )
    if tag in _VOID:
        return Html(f"<{tag}{written}/>")
    return Html(f"<{tag}{written}>{join(children)}</{tag}>")


def _attribute(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.6g}"


def page(title: str, *content: str) -> str:
    """A whole document, which a browser lets load nothing and run nothing."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Html(_STYLE)),
    )
    body = element("body", element("h1", title), *content)
    return "<!DOCTYPE html>\n" + element("html", head, "\n", body, lang="en") + "\n"


def section(title: str, *content: str) -> Html:
    """A titled part of a page."""
    return element("section", element("h2", title), "\n", *content)


def table(header: Sequence[str], rows: Iterable[Sequence[str | float]]) -> Html:
    """A table; numbers are aligned right and shown with up to 5 digits, whole ones in full."""
    body = [element("tr", *(_cell(value) for value in row)) for row in rows]
    parts: list[Html] = [element("tbody", *body)]
    if header:
        parts.insert(0, element("thead", element("tr", *(element("th", name) for name in header))))
    return element("div", element("table", *parts), class_="scroll")


def _cell(value: str | float) -> Html:
    if isinstance(value, str):
        return element("td", value)
    return element("td", f"{value:,}" if isinstance(value, int) else f"{value:.5g}", class_="number")


def cards(facts: Iterable[tuple[str, str]]) -> Html:
    """Names with large values, side by side."""
    return element(
        "div", *(element("div", element("b", value), name, class_="card") for name, value in facts), class_="cards"
    )


def tile(picture: str | None, alternative: str, *captions: str, query: bool = False) -> Html:
    """A picture with lines of text below it.

    Args:
        picture: A data URI; None, or any other URI, for a grey square with the alternative text.
        alternative: What stands for the picture.
        captions: Lines; empty ones are left out.
        query: Outlined, as what was searched for.
    """
    if picture is not None and picture.startswith("data:image/"):
        shown = element("img", src=picture, alt=alternative, title=alternative)
    else:
        shown = element("div", alternative, class_="none")
    lines = [element("div", caption) for caption in captions if caption]
    return element("figure", shown, element("figcaption", *lines), class_="tile query" if query else "tile")
