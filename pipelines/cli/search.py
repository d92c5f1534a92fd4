"""`shelfmark search`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from index_builder.search import Hit
from pipelines.cli.console import align, show, show_document
from pipelines.cli.flag_types import Parser, add_noise_flags, condition, positive
from pipelines.cli.trust_flags import add_trust_flags
from pipelines.requests import SearchChoices, TrustChoices
from pipelines.search import CatalogSearcher, PictureError, open_searcher
from pipelines.search_result import SearchQuery, SearchResult
from store.errors import UserError
from store.terminal_text import one_line


def add_flags(parser: Parser) -> None:
    """What is searched for, and how answers are chosen."""
    parser.add_argument("--store", required=True, metavar="URI", help="where the index lies")
    query = parser.add_mutually_exclusive_group(required=True)
    query.add_argument("--image", nargs="+", metavar="FILE", help="pictures to look for: files or URIs")
    query.add_argument("--item", metavar="ID", help="an item of the index: the mean of its pictures")
    query.add_argument("--image_id", metavar="ID", help="a picture of the index")
    parser.add_argument(
        "-k", type=positive, default=SearchChoices.k, metavar="N", help="answers to each (default: %(default)s)"
    )
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
    add_noise_flags(parser)


def run(flags: argparse.Namespace, beam_flags: list[str]) -> int:
    """Searches, prints, and writes the sheet where one was asked for.

    Raises:
        UserError: A picture, item or attribute that cannot be searched for.
        StoreError: The index or the weights are damaged.
    """
    del beam_flags  # takes none
    where = dict(flags.where)
    if len(where) != len(flags.where):
        raise UserError("--where: expected every attribute once, found one given twice; no row has two values of it")
    trust = TrustChoices(trust=flags.trust, allow_local=flags.allow_local, allow_hosts=flags.allow_hosts)
    found = _search(flags, open_searcher(flags.store, flags.version, trust=trust.trusted()), where)
    if flags.sheet:
        found.write_sheet(flags.sheet)
    if flags.format == "json":
        show_document(found.to_dict())
    else:
        show(search_table(found.queries, found.answers))
    return 0


def _search(flags: argparse.Namespace, searcher: CatalogSearcher, where: dict[str, str]) -> SearchResult:
    if flags.item:
        return searcher.search_item(flags.item, k=flags.k, where=where, group_by=flags.group_by)
    if flags.image_id:
        return searcher.search_image_id(flags.image_id, k=flags.k, where=where, group_by=flags.group_by)
    try:
        return searcher.search_pictures(flags.image, k=flags.k, where=where, group_by=flags.group_by)
    except PictureError as error:
        raise UserError(f"--image {error}") from error


def search_table(queries: Sequence[SearchQuery], answers: Sequence[Sequence[Hit]]) -> str:
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
