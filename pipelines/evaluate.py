"""How good are the answers, on pictures whose labels are known? The use case behind `shelfmark evaluate`."""

from __future__ import annotations

import collections
import dataclasses
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fetch.trust import Trust
from index_builder.pages import ConfusedPair, evaluation_html
from index_builder.search import Evaluation, Searcher, measure_retrieval
from pipelines.labelled_queries import LabelledQueries, labels_of, queries_from_catalog, queries_from_index
from pipelines.requests import EvaluateRequest, Uri
from pipelines.results import Lines, Result
from pipelines.search import open_searcher
from pipelines.thumbnails import open_index_thumbnails, open_thumbnails
from store.location import Store

_SEARCHED_AT_ONCE = 1_024


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


@dataclasses.dataclass(frozen=True)
class Evaluated(Result):
    """How good the answers are.

    Attributes:
        version: Of the index.
        snapshot: What it is made of.
        encoder: The manifest's.
        vectors: Pictures in the index.
        label: What made two pictures alike.
        catalog: Where the queries came from; None for the index's own pictures.
        quality: Precision, recall and mAP over all queries and by label, with intervals, and the confusions.
        write_html: Writes a page with the worst confusions in pictures.
    """

    version: str
    snapshot: str
    encoder: Mapping[str, Any]
    vectors: int
    label: str
    catalog: str | None
    quality: Evaluation
    _draw: Callable[[Path, Evaluated], None] = dataclasses.field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """What was measured on what."""
        return {
            "version": self.version,
            "snapshot": self.snapshot,
            "encoder": self.encoder,
            "label": self.label,
            "catalog": self.catalog,
            **self.quality.to_dict(),
        }

    def about(self) -> Lines:
        """What was measured."""
        return [
            ("index", f"{self.version}, {self.vectors:,} pictures"),
            ("queries from", self.catalog or "the index's own pictures, each left out of its own answer"),
            ("label", self.label),
            ("encoder", f"{self.encoder['backbone']}, weights {self.encoder['weights']}"),
        ]

    def summary(self) -> Lines:
        """What was measured, and the overall numbers with their intervals."""
        return [*self.about(), *overall_lines(self.quality)]

    def write_page(self, path: Uri) -> None:
        """Writes a self-contained page with the worst confusions in pictures.

        Raises:
            UserError: The file cannot be written.
        """
        self._draw(Path(path), self)


def evaluate(request: EvaluateRequest) -> Evaluated:
    """Measures how good an index's answers are, on pictures whose labels are known.

    Raises:
        UserError: A label that the index or the queries lack, or queries that cannot be read.
        StoreError: The index or the weights are damaged.
    """
    trust = request.trusted()
    store = Store(os.fspath(request.store))
    searcher = open_searcher(request.store, request.version).searcher
    labels = labels_of(searcher.rows, request.label)
    catalog = None if request.queries is None else os.fspath(request.queries)
    if catalog is None:
        queries = queries_from_index(searcher, labels, request.max_queries)
    else:
        queries = queries_from_catalog(store, searcher, catalog, request.label, trust)
    answers = find_answers(searcher, queries, labels, request.k)
    quality = measure_retrieval(answers.labels(labels), queries.labels, answers.relevant_rows, request.k)
    manifest = searcher.manifest
    draw = functools.partial(_write_page, store, trust, searcher, queries, answers)
    return Evaluated(
        searcher.version, manifest.snapshot, manifest.encoder, manifest.vectors, request.label, catalog, quality, draw
    )


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


def overall_lines(quality: Evaluation) -> Lines:
    """Queries, precision@1, recall@k and mAP@k with their intervals."""
    overall = quality.overall
    nothing = f", and {quality.without_relevant:,} with nothing to find" if quality.without_relevant else ""
    estimates = (
        ("precision@1", overall.precision_at_1),
        (f"label-recall@{quality.k}", overall.recall_at_k),
        (f"mAP@{quality.k}", overall.map_at_k),
    )
    return [
        ("queries", f"{overall.queries:,}{nothing}"),
        *((name, f"{one.value:.3f}  ({one.low:.3f} to {one.high:.3f})") for name, one in estimates),
    ]


def _write_page(
    store: Store,
    trust: Trust,
    searcher: Searcher,
    queries: LabelledQueries,
    answers: Answers,
    path: Path,
    evaluated: Evaluated,
) -> None:
    of_queries = of_catalog = open_index_thumbnails(store, trust, searcher)
    if queries.base is not None:
        of_queries = open_thumbnails(queries.base, trust, queries.rows.content_sha256)

    def confused_pair(number: int) -> ConfusedPair:
        query = queries.pictures[number]
        answer = searcher.rows.hit(int(answers.rows[number, 0]), float(answers.scores[number, 0]))
        return ConfusedPair(query.image_uri, of_queries(query), answer)

    page = evaluation_html(evaluated.quality, dict(evaluated.about()), confused_pair, of_catalog)
    of_catalog.write_page(path, page)
