"""Pages for people: an index's report, a search's sheet, an evaluation; self-contained HTML with SVG."""

from __future__ import annotations

from index_builder.pages.charts import Axis, Point, Target, plot
from index_builder.pages.evaluation_page import ConfusedPair, evaluation_html
from index_builder.pages.fragments import matches_html, table_html
from index_builder.pages.html import Html, element
from index_builder.pages.search_sheet import SheetRow, sheet_html

__all__ = [
    "Axis",
    "ConfusedPair",
    "Html",
    "Point",
    "SheetRow",
    "Target",
    "element",
    "evaluation_html",
    "matches_html",
    "plot",
    "sheet_html",
    "table_html",
]
