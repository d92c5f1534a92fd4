"""The searcher that reads a published index, what it is made of, and how good its answers are."""

from __future__ import annotations

from index_builder.search.neighbours import Query, answer, most_own, query_of_image, query_of_item, similar_items
from index_builder.search.picture_digests import PictureDigests
from index_builder.search.retrieval_quality import Evaluation, measure_retrieval
from index_builder.search.rows import Hit, Rows, row_table
from index_builder.search.searcher import Matches, Searcher
from index_builder.search.version_files import forget_copy

__all__ = [
    "Evaluation",
    "Hit",
    "Matches",
    "PictureDigests",
    "Query",
    "Rows",
    "Searcher",
    "answer",
    "forget_copy",
    "measure_retrieval",
    "most_own",
    "query_of_image",
    "query_of_item",
    "row_table",
    "similar_items",
]
