"""The page that shows queries and what was found for each, side by side."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from index_builder.pages.html import Html, element, page, section, tile
from index_builder.search.rows import Hit

__all__ = ["SheetRow", "hit_tile", "sheet_html"]


@dataclasses.dataclass(frozen=True, slots=True)
class SheetRow:
    """A query and its answers.

    Attributes:
        title: What was searched for.
        picture: The query's picture as a data URI, or None where there is none.
        hits: The answers, best first.
    """

    title: str
    picture: str | None
    hits: Sequence[Hit]


def sheet_html(queries: Sequence[SheetRow], thumbnail: Callable[[Hit], str | None]) -> str:
    """A self-contained page.

    Args:
        queries: What to show.
        thumbnail: An answer -> data URI, or None where there is no picture to be had.
    """
    return page("Nearest pictures", *(_row(query, thumbnail) for query in queries))


def _row(query: SheetRow, thumbnail: Callable[[Hit], str | None]) -> Html:
    tiles = [tile(query.picture, query.title, "query", query=True)]
    tiles += [hit_tile(hit, thumbnail) for hit in query.hits]
    nothing = [] if query.hits else [element("p", "Nothing was found.", class_="faint")]
    return section(query.title, element("div", *tiles, class_="tiles"), *nothing)


def hit_tile(hit: Hit, thumbnail: Callable[[Hit], str | None]) -> Html:
    """An answer's picture over its cosine, item and attributes."""
    attributes = [f"{name}: {value}" for name, value in sorted(hit.attributes.items())]
    return tile(thumbnail(hit), hit.image_uri, element("b", f"{hit.score:.4f}"), hit.item_id, *attributes)
