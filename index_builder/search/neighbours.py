"""What looks like a picture or an item of the index; its own rows are the query, and no answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from index_builder.search.rows import Hit
from index_builder.search.searcher import Searcher

_MOST_PICTURES = 64
_MOST_NEIGHBOURS = 10_000


@dataclasses.dataclass(frozen=True, slots=True)
class Query:
    """What is searched for.

    Attributes:
        vector: float32[D], any length but 0.
        own: Row numbers that must not be among its answers; empty for a picture from outside.
    """

    vector: npt.NDArray[np.float32]
    own: frozenset[int] = frozenset()


def query_of_image(searcher: Searcher, image_id: str, group_by: str | None = None) -> Query:
    """A picture of the index.

    Args:
        searcher: The index.
        image_id: The picture.
        group_by: As for `answer`: with "item" the picture's whole item is left out.

    Raises:
        UserError: There is no such picture.
    """
    row = searcher.find_image(image_id)
    own = [row]
    if group_by:  # an answer of one picture per item cannot leave out a picture and keep its item
        own = searcher.find_item(searcher.rows.item_id(row)).tolist()
    return Query(searcher.vectors(row)[0], frozenset(own))


def query_of_item(searcher: Searcher, item_id: str) -> Query:
    """The mean of an item's pictures, all of which are left out of the answers.

    Raises:
        UserError: There is no such item.
    """
    rows = searcher.find_item(item_id)
    return Query(searcher.vectors(rows).mean(axis=0), frozenset(rows.tolist()))


def answer(
    searcher: Searcher, queries: Sequence[Query], k: int, where: Mapping[str, str] | None, group_by: str | None
) -> list[list[Hit]]:
    """At most `k` hits to each query, best first, without the query's own rows.

    Args:
        searcher: The index.
        queries: One or more.
        k: Answers wanted, from 1.
        where: Attribute values that every answer must have.
        group_by: "item" for at most one picture, the best, of each item.

    Raises:
        UserError: An attribute that no row has.
        ValueError: As `Searcher.search`.
    """
    own = [query.own for query in queries]
    wanted = k + most_own(queries, group_by)
    matches = searcher.search(np.stack([query.vector for query in queries]), wanted, where or None, group_by)
    return matches.without(own, k).all_hits()


def most_own(queries: Sequence[Query], group_by: str | None) -> int:
    """How many of a query's own rows there can be among its nearest; so many more must be looked for.

    Args:
        queries: One or more.
        group_by: As for `answer`: with "item" there is one at most, for they are pictures of one item.
    """
    most = max(len(query.own) for query in queries)
    return min(most, 1) if group_by else most


def similar_items(searcher: Searcher, item_id: str, k: int, where: Mapping[str, str] | None) -> list[Hit]:
    """Other items with a picture near any picture of this one.

    The nearest items of each of the item's pictures are merged. An item scores what its nearest picture does, and
    answers with that picture. Of an item with more than 64 pictures, 64 spread evenly over its rows are searched for,
    and fewer where `k` neighbours of each would be more than 10,000.

    Args:
        searcher: The index.
        item_id: Whose pictures are searched for; never among the answers.
        k: Items wanted, from 1.
        where: Attribute values that every answer must have.

    Returns:
        At most `k` hits of different items, best first.

    Raises:
        UserError: There is no such item, or an attribute that no row has.
        ValueError: `k` is below 1.
    """
    if k < 1:
        raise ValueError(f"k: expected a whole number from 1, found {k}")
    pictures = searcher.find_item(item_id)
    most = max(1, min(_MOST_PICTURES, _MOST_NEIGHBOURS // k))
    if len(pictures) > most:
        pictures = pictures[np.linspace(0, len(pictures) - 1, most).round().astype(np.int64)]
    # One more: the item itself is among them.
    matches = searcher.search(searcher.vectors(pictures), k + 1, where or None, "item")
    there = matches.rows >= 0
    rows, scores = matches.rows[there], matches.scores[there]
    order = np.argsort(-scores, kind="stable")
    rows, scores = rows[order], scores[order]
    best: dict[str, int] = {}
    for place, found in enumerate(searcher.rows.item_ids(rows)):
        best.setdefault(found, place)
    best.pop(item_id, None)
    places = list(best.values())[:k]
    return searcher.rows.hits(rows[places], scores[places])
