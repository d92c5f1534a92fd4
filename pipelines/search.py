"""`shelfmark search`: what looks like this picture, or this item?"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from index_builder.search import Hit, Query, Searcher, answer, query_of_image, query_of_item
from pipelines.console import LOG, align, show, show_document
from pipelines.flag_types import Commands, positive
from pipelines.trust import add_trust_flags, trust_of
from store.errors import UserError
from store.location import Store
from store.rejects import Rejected
from store.terminal_text import one_line


@dataclasses.dataclass(frozen=True, slots=True)
class SearchQuery:
    """What the user asked for.

    Attributes:
        name: As the user gave it: a file, an item_id or an image_id.
        query: What is searched for.
        picture: The encoded picture, or None where a row of the index is the query.
        hit: The row; None for a picture from outside.
    """

    name: str
    query: Query
    picture: bytes | None = None
    hit: Hit | None = None


def add_search(commands: Commands) -> None:
    """`shelfmark search`."""
    summary = "what looks like this picture, or this item of the catalog"
    parser = commands.add_parser("search", help=summary, description=summary, allow_abbrev=False)
    parser.add_argument("--store", required=True, metavar="URI", help="where the index lies")
    query = parser.add_mutually_exclusive_group(required=True)
    query.add_argument("--image", nargs="+", metavar="FILE", help="pictures to look for: files or URIs")
    query.add_argument("--item", metavar="ID", help="an item of the index: the mean of its pictures")
    query.add_argument("--image_id", metavar="ID", help="a picture of the index")
    parser.add_argument("-k", type=positive, default=10, metavar="N", help="answers to each (default: %(default)s)")
    parser.add_argument("--version", metavar="V", help="of the index (default: the published one)")
    parser.add_argument(
        "--where",
        type=condition,
        action="append",
        default=[],
        metavar="ATTRIBUTE=VALUE",
        help="answer with rows that have this; repeat it for more conditions, which must all hold",
    )
    parser.add_argument("--group_by", choices=("item",), help="answer with the best picture of each item")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="json: one document on stdout")
    parser.add_argument("--sheet", metavar="FILE", help="also write a page that shows queries beside their answers")
    add_trust_flags(parser)
    parser.add_argument("--verbose", action="store_true", help="show what the libraries have to say")


def condition(text: str) -> tuple[str, str]:
    """An attribute and the value it must have, from ATTRIBUTE=VALUE; the value may hold more equals signs."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"expected ATTRIBUTE=VALUE, found {text!r}")
    return name, value


def run_search(flags: argparse.Namespace) -> int:
    """Searches, prints, and writes the sheet where one was asked for.

    Raises:
        UserError: A picture, item or attribute that cannot be searched for.
        StoreError: The index or the weights are damaged.
    """
    where = dict(flags.where)
    if len(where) != len(flags.where):
        raise UserError("--where: expected every attribute once, found one given twice; no row has two values of it")
    searcher = open_searcher(flags.store, flags.version)
    queries = _queries(flags, searcher)
    answers = answer(searcher, [asked.query for asked in queries], flags.k, where, flags.group_by)
    if flags.sheet:
        _write_sheet(flags, searcher, queries, answers)
    if flags.format == "json":
        show_document(_document(flags, searcher, where, queries, answers))
    else:
        show(table(queries, answers))
    return 0


def open_searcher(store_uri: str, version: str | None) -> Searcher:
    """The published version, or a named one; says so on the console when its vectors mean nothing.

    Raises:
        UserError: There is no such version, or none is published.
        StoreError: It is damaged.
    """
    searcher = Searcher.open(store_uri, version)
    if searcher.manifest.untrained:
        LOG.warning(f"The weights ({searcher.manifest.encoder['weights']}) are untrained: similarities mean nothing.")
    return searcher


def _queries(flags: argparse.Namespace, searcher: Searcher) -> list[SearchQuery]:
    if flags.image:
        return _picture_queries(flags.image, Store(flags.store), searcher)
    if flags.item:
        name, query = flags.item, query_of_item(searcher, flags.item)
        shown = min(query.own)
    else:
        name, query = flags.image_id, query_of_image(searcher, flags.image_id, flags.group_by)
        shown = searcher.find_image(name)
    return [SearchQuery(name, query, hit=searcher.rows.hit(shown, 1.0))]


def _picture_queries(names: Sequence[str], store: Store, searcher: Searcher) -> list[SearchQuery]:
    from fetch.fetcher import FetchOptions, ImageFetcher
    from fetch.policy import ON_REQUEST
    from pipelines.query_encoder import QueryEncoder

    if any("://" in name for name in names):
        from pipelines.beam_flags import open_file_systems

        open_file_systems()
    fetcher = ImageFetcher(FetchOptions(), ON_REQUEST)
    pictures = []
    for name in names:
        try:
            pictures.append(fetcher.fetch(name))
        except Rejected as rejected:
            raise UserError(f"--image {name}: {rejected}") from rejected
    fetcher.close()
    encoder = QueryEncoder(store, searcher.manifest.encoder)
    vectors = encoder.embed_pictures(pictures, [f"--image {name}" for name in names])
    found = zip(names, vectors, pictures, strict=True)
    return [SearchQuery(name, Query(vector), picture=data) for name, vector, data in found]


def table(queries: Sequence[SearchQuery], answers: Sequence[Sequence[Hit]]) -> str:
    """The answers for a terminal: a block to each query, columns aligned."""
    blocks = []
    for asked, hits in zip(queries, answers, strict=True):
        rows: list[tuple[str, ...]] = [("rank", "score", "item_id", "image_id", "image_uri", "attributes")]
        for rank, hit in enumerate(hits, start=1):
            attributes = " ".join(f"{name}={value}" for name, value in hit.attributes.items())
            rows.append((str(rank), f"{hit.score:.4f}", hit.item_id, hit.image_id, hit.image_uri, attributes))
        # A line break in a title must not break the table.
        rows = [tuple(" ".join(cell.split()) for cell in row) for row in rows]
        blocks.append("\n".join([one_line(asked.name), *(align(rows) if hits else ["nothing found"])]))
    return "\n\n".join(blocks)


def _document(
    flags: argparse.Namespace,
    searcher: Searcher,
    where: Mapping[str, str],
    queries: Sequence[SearchQuery],
    answers: Sequence[Sequence[Hit]],
) -> dict[str, Any]:
    return {
        "version": searcher.version,
        "snapshot": searcher.manifest.snapshot,
        "k": flags.k,
        "where": dict(where),
        "queries": [
            {"query": asked.name, "hits": [_hit_document(hit) for hit in hits]}
            for asked, hits in zip(queries, answers, strict=True)
        ],
    }


def _hit_document(hit: Hit) -> dict[str, Any]:
    return {
        "score": round(hit.score, 6),
        "item_id": hit.item_id,
        "image_id": hit.image_id,
        "image_uri": hit.image_uri,
        "attributes": hit.attributes,
    }


def _write_sheet(
    flags: argparse.Namespace, searcher: Searcher, queries: Sequence[SearchQuery], answers: Sequence[Sequence[Hit]]
) -> None:
    from encoder.thumbnails import thumbnail_data_uri
    from index_builder.pages import SheetRow, sheet_html
    from pipelines.thumbnails import open_index_thumbnails

    thumbnails = open_index_thumbnails(Store(flags.store), trust_of(flags), searcher)
    rows = []
    for asked, hits in zip(queries, answers, strict=True):
        if asked.picture is not None:
            picture: str | None = thumbnail_data_uri(asked.picture)
        else:
            picture = None if asked.hit is None else thumbnails(asked.hit)
        rows.append(SheetRow(asked.name, picture, hits))
    thumbnails.write_page(Path(flags.sheet), sheet_html(rows, thumbnails))
