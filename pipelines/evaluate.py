"""`shelfmark evaluate`: how good are the answers, on pictures whose labels are known?"""

from __future__ import annotations

import argparse
import collections
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from index_builder.pages import ConfusedPair, evaluation_html
from index_builder.search import Evaluation, Searcher, measure_retrieval
from pipelines.console import align, show, show_document
from pipelines.flag_types import Commands, add_output_flags, positive
from pipelines.labelled_queries import ITEM, LabelledQueries, labels_of, queries_from_catalog, queries_from_index
from pipelines.search import open_searcher
from pipelines.trust import add_trust_flags, trust_of
from store.location import Store
from store.terminal_text import one_line

MAX_QUERIES = 10_000

_SEARCHED_AT_ONCE = 1_024
_SHOWN_LABELS = 40


@dataclasses.dataclass(frozen=True, slots=True)
class Answers:
    """What was found for each of n queries, its own row left out.

    Attributes:
        rows: int64[n, k] row numbers, best first, -1 where there are fewer.
        scores: float32[n, k] cosines, NaN where there are fewer.
        relevant_rows: int64[n]: rows of the index that have the query's label, its own row not counted.
    """

    rows: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    relevant_rows: npt.NDArray[np.int64]

    def labels(self, of_row: Sequence[str | None]) -> list[list[str | None]]:
        """The label of every answer, given those of every row of the index."""
        return [[of_row[row] for row in found if row >= 0] for found in self.rows.tolist()]


def add_evaluate(commands: Commands) -> None:
    """`shelfmark evaluate`."""
    summary = "how good the answers are, on pictures whose labels are known"
    parser = commands.add_parser("evaluate", help=summary, description=summary, allow_abbrev=False)
    parser.add_argument("--store", required=True, metavar="URI", help="where the index lies")
    parser.add_argument(
        "--label", required=True, metavar="ATTRIBUTE", help=f"what makes two pictures alike; {ITEM}: one item's views"
    )
    parser.add_argument(
        "--queries",
        metavar="CATALOG",
        help="labelled pictures to search for (default: the index's own, each left out of its own answer)",
    )
    parser.add_argument(
        "--max_queries",
        type=positive,
        default=MAX_QUERIES,
        metavar="N",
        help="without --queries: a random sample of so many where there are more (default: %(default)s)",
    )
    parser.add_argument("-k", type=positive, default=10, metavar="N", help="answers to each (default: %(default)s)")
    parser.add_argument("--version", metavar="V", help="of the index (default: the published one)")
    parser.add_argument("--html", metavar="FILE", help="also write a page with the worst confusions in pictures")
    add_trust_flags(parser)
    add_output_flags(parser)


def run_evaluate(flags: argparse.Namespace) -> int:
    """Measures, prints, and writes the page where one was asked for.

    Raises:
        UserError: A label that the index or the queries lack, or queries that cannot be read.
        StoreError: The index or the weights are damaged.
    """
    store = Store(flags.store)
    searcher = open_searcher(flags.store, flags.version)
    labels = labels_of(searcher.rows, flags.label)
    if flags.queries:
        queries = queries_from_catalog(store, searcher, flags.queries, flags.label, trust_of(flags))
    else:
        queries = queries_from_index(searcher, labels, flags.max_queries)
    answers = find_answers(searcher, queries, labels, flags.k)
    evaluation = measure_retrieval(answers.labels(labels), queries.labels, answers.relevant_rows, flags.k)
    if flags.html:
        _write_page(Path(flags.html), flags, searcher, queries, answers, evaluation)
    if flags.format == "json":
        document = {
            "version": searcher.version,
            "snapshot": searcher.manifest.snapshot,
            "encoder": searcher.manifest.encoder,
            "label": flags.label,
            "catalog": flags.queries,
            **evaluation.to_dict(),
        }
        show_document(document)
    else:
        about = _about(flags, searcher)
        show("\n".join(f"{name:<14}{one_line(value)}" for name, value in about.items()))
        show(f"\n{table(evaluation)}")
    return 0


def find_answers(searcher: Searcher, queries: LabelledQueries, labels: Sequence[str | None], k: int) -> Answers:
    """Searches for every query and compares labels.

    Args:
        searcher: The index.
        queries: n of them.
        labels: Of every row of the index, None where it has none.
        k: Answers to each.
    """
    parts = []
    for start in range(0, len(queries.vectors), _SEARCHED_AT_ONCE):
        here = slice(start, start + _SEARCHED_AT_ONCE)
        others = searcher.search(queries.vectors[here], k + 1).without(queries.own_rows[here], k)
        parts.append([others.rows, others.scores])
    rows, scores = (np.concatenate(found) for found in zip(*parts, strict=True))
    counts = collections.Counter(label for label in labels if label is not None)
    with_label = np.array([counts[label] for label in queries.labels], np.int64)
    return Answers(rows, scores, with_label - (queries.own_rows >= 0))


def _about(flags: argparse.Namespace, searcher: Searcher) -> dict[str, str]:
    manifest = searcher.manifest
    return {
        "index": f"{searcher.version}, {manifest.vectors:,} pictures",
        "queries from": flags.queries or "the index's own pictures, each left out of its own answer",
        "label": flags.label,
        "encoder": f"{manifest.encoder['backbone']}, weights {manifest.encoder['weights']}",
    }


def table(evaluation: Evaluation) -> str:
    """The overall numbers with their intervals and, worst first, those of each label."""
    k = evaluation.k
    overall = evaluation.overall
    lines = [
        f"{'queries':<14}{overall.queries:,}"
        + (f", and {evaluation.without_relevant:,} with nothing to find" if evaluation.without_relevant else "")
    ]
    lines += [
        f"{name:<14}{estimate.value:.3f}  ({estimate.low:.3f} to {estimate.high:.3f})"
        for name, estimate in (
            ("precision@1", overall.precision_at_1),
            (f"recall@{k}", overall.recall_at_k),
            (f"mAP@{k}", overall.map_at_k),
        )
    ]
    worst_first = sorted(
        evaluation.per_label.items(), key=lambda pair: (pair[1].precision_at_1.value, -pair[1].queries)
    )
    rows = [["label", "queries", "precision@1", f"recall@{k}", f"mAP@{k}"]]
    for label, quality in worst_first[:_SHOWN_LABELS]:
        estimates = (quality.precision_at_1, quality.recall_at_k, quality.map_at_k)
        rows.append([label, f"{quality.queries:,}", *(f"{estimate.value:.3f}" for estimate in estimates)])
    lines += ["", *align(rows, numbers=True)]
    if len(worst_first) > _SHOWN_LABELS:
        lines.append(f"and {len(worst_first) - _SHOWN_LABELS:,} better labels; --format json has them all")
    return "\n".join(lines)


def _write_page(
    path: Path,
    flags: argparse.Namespace,
    searcher: Searcher,
    queries: LabelledQueries,
    answers: Answers,
    evaluation: Evaluation,
) -> None:
    from pipelines.thumbnails import open_index_thumbnails, open_thumbnails

    trust = trust_of(flags)
    of_queries = of_catalog = open_index_thumbnails(Store(flags.store), trust, searcher)
    if queries.base is not None:
        of_queries = open_thumbnails(queries.base, trust, queries.rows.content_sha256)

    def confused_pair(number: int) -> ConfusedPair:
        query = queries.pictures[number]
        answer = searcher.rows.hit(int(answers.rows[number, 0]), float(answers.scores[number, 0]))
        return ConfusedPair(query.image_uri, of_queries(query), answer)

    page = evaluation_html(evaluation, _about(flags, searcher), confused_pair, of_catalog)
    of_catalog.write_page(path, page)
