"""`shelfmark evaluate`."""

from __future__ import annotations

import argparse

from index_builder.search import Evaluation
from pipelines.cli.console import align, show, show_document
from pipelines.cli.flag_types import Parser, add_output_flags, positive, request_of
from pipelines.cli.trust_flags import add_trust_flags
from pipelines.evaluate import evaluate, overall_lines
from pipelines.labelled_queries import ITEM
from pipelines.requests import EvaluateRequest
from store.terminal_text import one_line

_NAME_WIDTH = 17
_SHOWN_LABELS = 40


def add_flags(parser: Parser) -> None:
    """Which labels, which queries."""
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
        default=EvaluateRequest.max_queries,
        metavar="N",
        help="without --queries: a random sample of so many where there are more (default: %(default)s)",
    )
    parser.add_argument(
        "-k", type=positive, default=EvaluateRequest.k, metavar="N", help="answers to each (default: %(default)s)"
    )
    parser.add_argument("--version", metavar="V", help="of the index (default: the published one)")
    parser.add_argument("--html", metavar="FILE", help="also write a page with the worst confusions in pictures")
    add_trust_flags(parser)
    add_output_flags(parser)


def run(flags: argparse.Namespace, beam_flags: list[str]) -> int:
    """Measures, prints, and writes the page where one was asked for.

    Raises:
        UserError, StoreError: See `pipelines.evaluate.evaluate`.
    """
    del beam_flags  # takes none
    evaluated = evaluate(request_of(EvaluateRequest, flags))
    if flags.html:
        evaluated.write_page(flags.html)
    if flags.format == "json":
        show_document(evaluated.to_dict())
    else:
        show("\n".join(f"{name:<{_NAME_WIDTH}}{one_line(value)}" for name, value in evaluated.about()))
        show(f"\n{evaluation_table(evaluated.quality)}")
    return 0


def evaluation_table(evaluation: Evaluation) -> str:
    """The overall numbers with their intervals and, worst first, those of each label."""
    k = evaluation.k
    lines = [f"{name:<{_NAME_WIDTH}}{value}" for name, value in overall_lines(evaluation)]
    worst_first = sorted(
        evaluation.per_label.items(), key=lambda pair: (pair[1].precision_at_1.value, -pair[1].queries)
    )
    rows = [["label", "queries", "precision@1", f"label-recall@{k}", f"mAP@{k}"]]
    for label, quality in worst_first[:_SHOWN_LABELS]:
        estimates = (quality.precision_at_1, quality.recall_at_k, quality.map_at_k)
        rows.append([label, f"{quality.queries:,}", *(f"{estimate.value:.3f}" for estimate in estimates)])
    lines += ["", *align(rows, numbers=True)]
    if len(worst_first) > _SHOWN_LABELS:
        lines.append(f"and {len(worst_first) - _SHOWN_LABELS:,} better labels; --format json has them all")
    return "\n".join(lines)
