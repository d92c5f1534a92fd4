"""Pieces of HTML for notebooks: no style sheet of their own, so that the notebook's theme holds, light or dark."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from index_builder.pages.html import Html, element, join
from index_builder.search.rows import Hit

__all__ = ["matches_html", "table_html"]

_ROW = "display:flex;flex-wrap:wrap;gap:10px;margin:6px 0 14px"
_FIGURE = "width:130px;margin:0;overflow-wrap:anywhere;font-size:12px;line-height:1.35;text-align:left"
_PICTURE = "width:130px;height:130px;object-fit:contain"
_NONE = f"{_PICTURE};display:flex;align-items:center;justify-content:center;overflow:hidden;opacity:.6"


def table_html(lines: Iterable[tuple[str, str]]) -> Html:
    """Names and values as a table of two columns."""
    cells = (
        element("tr", element("th", name, style="text-align:left"), element("td", value, style="text-align:left"))
        for name, value in lines
    )
    return element("table", element("tbody", *cells))


def matches_html(
    queries: Sequence[tuple[str, str | None, Sequence[Hit]]], thumbnail: Callable[[Hit], str | None]
) -> Html:
    """Each query beside its answers, in pictures.

    Args:
        queries: Title, picture as a data URI or None, and the answers, best first.
        thumbnail: An answer -> data URI, or None where there is no picture to be had.
    """
    return join(_query(title, picture, hits, thumbnail) for title, picture, hits in queries)


def _query(title: str, picture: str | None, hits: Sequence[Hit], thumbnail: Callable[[Hit], str | None]) -> Html:
    answers = (_figure(thumbnail(hit), hit.image_uri, f"{hit.score:.4f}", hit.item_id) for hit in hits)
    return element("div", _figure(picture, title, "query", title), *answers, style=_ROW)


def _figure(picture: str | None, alternative: str, head: str, caption: str) -> Html:
    shown = (
        element("div", alternative, style=_NONE)
        if picture is None
        else element("img", src=picture, alt=alternative, style=_PICTURE)
    )
    return element("figure", shown, element("figcaption", element("b", head), element("br"), caption), style=_FIGURE)
