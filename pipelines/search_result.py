"""What was searched for and what was found: JSON, a page, pictures in a notebook."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from encoder.thumbnails import thumbnail_data_uri
from index_builder.pages import SheetRow, matches_html, sheet_html
from index_builder.search import Hit, Query
from pipelines.requests import SearchChoices, Uri
from pipelines.results import Lines, Result
from pipelines.thumbnails import PageThumbnails


@dataclasses.dataclass(frozen=True, slots=True)
class SearchQuery:
    """One thing that was searched for.

    Attributes:
        name: As the user gave it: a file, an item_id or an image_id.
        query: Its vector, and the rows that must not be among its answers.
        picture: The encoded picture, or None where a row of the index is the query.
        hit: The row; None for a picture from outside.
    """

    name: str
    query: Query
    picture: bytes | None = None
    hit: Hit | None = None


@dataclasses.dataclass(frozen=True)
class SearchResult(Result):
    """Queries and their answers.

    Attributes:
        version: Of the index.
        snapshot: What it is made of.
        choices: How answers were chosen.
        queries: What was searched for.
        answers: Those of each query, the best first; fewer than k where there are no more.
        open_thumbnails: Opens the pictures of answers, for pages.
    """

    version: str
    snapshot: str
    choices: SearchChoices
    queries: tuple[SearchQuery, ...]
    answers: tuple[list[Hit], ...]
    open_thumbnails: Callable[[], PageThumbnails] = dataclasses.field(repr=False)

    def __len__(self) -> int:
        return len(self.answers)

    def __getitem__(self, query: int) -> list[Hit]:
        return self.answers[query]

    def to_dict(self) -> dict[str, Any]:
        """The version, what was asked, and the hits of each query."""
        return {
            "version": self.version,
            "snapshot": self.snapshot,
            "k": self.choices.k,
            "where": dict(self.choices.where),
            "queries": [
                {"query": asked.name, "hits": [hit.to_dict() for hit in hits]}
                for asked, hits in zip(self.queries, self.answers, strict=True)
            ],
        }

    def summary(self) -> Lines:
        """A line to each answer."""
        return [
            (asked.name, f"{hit.score:.4f}  {hit.item_id}  {hit.image_uri}")
            for asked, hits in zip(self.queries, self.answers, strict=True)
            for hit in hits
        ]

    def write_sheet(self, path: Uri) -> None:
        """Writes a self-contained page that shows queries beside their answers.

        Raises:
            UserError: The file cannot be written.
        """
        thumbnails = self.open_thumbnails()
        rows = [SheetRow(*shown) for shown in self._pictured(thumbnails)]
        thumbnails.write_page(Path(path), sheet_html(rows, thumbnails))

    def _repr_html_(self) -> str:
        """The pictures, for a notebook."""
        thumbnails = self.open_thumbnails()
        return matches_html(self._pictured(thumbnails), thumbnails)

    def _pictured(self, thumbnails: PageThumbnails) -> list[tuple[str, str | None, list[Hit]]]:
        return [
            (asked.name, _picture_of(asked, thumbnails), hits)
            for asked, hits in zip(self.queries, self.answers, strict=True)
        ]


def _picture_of(asked: SearchQuery, thumbnails: PageThumbnails) -> str | None:
    if asked.picture is not None:
        return thumbnail_data_uri(asked.picture)
    return None if asked.hit is None else thumbnails(asked.hit)
