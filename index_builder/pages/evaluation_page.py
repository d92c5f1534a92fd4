"""The page that shows retrieval quality: numbers with intervals, per label, and the worst confusions as pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from index_builder.pages.html import Html, cards, element, page, section, table, tile
from index_builder.pages.search_sheet import hit_tile
from index_builder.search.retrieval_quality import Confusion, Estimate, Evaluation, Quality
from index_builder.search.rows import Hit

__all__ = ["ConfusedPair", "evaluation_html"]

_HEADER = ("label", "queries", "precision@1", "95% interval", "recall@{k}", "95% interval", "mAP@{k}", "95% interval")


@dataclasses.dataclass(frozen=True, slots=True)
class ConfusedPair:
    """A query with the first answer it got.

    Attributes:
        title: What the query is.
        picture: The query's picture as a data URI, or None where there is none.
        answer: The wrong first answer.
    """

    title: str
    picture: str | None
    answer: Hit


def evaluation_html(
    evaluation: Evaluation,
    about: Mapping[str, str],
    confused_pair: Callable[[int], ConfusedPair],
    thumbnail: Callable[[Hit], str | None],
) -> str:
    """A self-contained page.

    Args:
        evaluation: What was measured.
        about: What was asked of what: index version, label, queries, weights; shown as it is.
        confused_pair: Number of a query that the evaluation names as an example -> what to show of it.
        thumbnail: An answer -> data URI, or None where there is no picture to be had.
    """
    return page(
        "Retrieval quality",
        table((), list(about.items())),
        _overall(evaluation),
        section("Per label", _per_label(evaluation)),
        section("Most frequent confusions", *_confusions(evaluation, confused_pair, thumbnail)),
    )


def _overall(evaluation: Evaluation) -> Html:
    quality, k = evaluation.overall, evaluation.k
    named = (
        ("precision@1", quality.precision_at_1),
        (f"recall@{k}", quality.recall_at_k),
        (f"mAP@{k}", quality.map_at_k),
    )
    facts = [(f"{name}, 95% interval {_interval(estimate)}", f"{estimate.value:.4f}") for name, estimate in named]
    left_out = f"{evaluation.without_relevant:,} more were left out, as no row of the index has their label."
    definition = (
        f"recall@{k}: relevant answers among the first {k}, divided by the lesser of {k} and the relevant rows there "
        f"are; AP@{k} has the same divisor. Intervals: percentile bootstrap over queries."
    )
    return section(
        "Overall",
        cards([("queries", f"{quality.queries:,}"), *facts]),
        *([element("p", left_out)] if evaluation.without_relevant else []),
        element("p", definition, class_="faint"),
    )


def _interval(estimate: Estimate) -> str:
    return f"{estimate.low:.4f}\N{EN DASH}{estimate.high:.4f}"


def _per_label(evaluation: Evaluation) -> Html:
    """The worst first: a page is read for what is wrong."""
    ranked = sorted(evaluation.per_label.items(), key=lambda pair: (pair[1].precision_at_1.value, -pair[1].queries))
    header = [name.format(k=evaluation.k) for name in _HEADER]
    return table(header, [_label_row(label, quality) for label, quality in ranked])


def _label_row(label: str, quality: Quality) -> list[str | float]:
    row: list[str | float] = [label, quality.queries]
    for estimate in (quality.precision_at_1, quality.recall_at_k, quality.map_at_k):
        row += [f"{estimate.value:.4f}", _interval(estimate)]
    return row


def _confusions(
    evaluation: Evaluation,
    confused_pair: Callable[[int], ConfusedPair],
    thumbnail: Callable[[Hit], str | None],
) -> list[Html]:
    if not evaluation.confusions:
        return [element("p", "Every first answer is right.", class_="faint")]
    return [_confusion(confusion, evaluation, confused_pair, thumbnail) for confusion in evaluation.confusions]


def _confusion(
    confusion: Confusion,
    evaluation: Evaluation,
    confused_pair: Callable[[int], ConfusedPair],
    thumbnail: Callable[[Hit], str | None],
) -> Html:
    found = "a picture without label" if confusion.found is None else confusion.found
    share = f"{confusion.count:,} of {evaluation.per_label[confusion.label].queries:,}"
    pairs = [confused_pair(number) for number in confusion.examples]
    shown = [
        element(
            "div",
            tile(pair.picture, pair.title, "query", pair.title, query=True),
            hit_tile(pair.answer, thumbnail),
            class_="pair",
        )
        for pair in pairs
    ]
    return element(
        "div",
        element("h3", confusion.label, " \N{RIGHTWARDS ARROW} ", found, " ", element("small", share, class_="faint")),
        element("div", *shown, class_="tiles"),
    )
