"""report.html: what a version holds, how it was built, what was measured, and what its pictures look like."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from index_builder.pages.charts import Axis, Point, Target, plot
from index_builder.pages.html import Html, cards, element, page, section, table
from index_builder.pages.overview import DuplicatePair, MapPoint
from index_builder.pages.search_sheet import hit_tile
from index_builder.search.rows import Hit
from store.index import IndexManifest
from store.measured import CurvePoint, ExactConfig, IndexConfig

__all__ = ["report_html"]

_SETTINGS = ("dimensions", "leaves_to_search", "first_candidates", "candidates")
_MEASURES = ("recall", "latency_ms", "queries_per_s")
_FLOAT32_BYTES = 4


def report_html(
    manifest: IndexManifest,
    duplicates: Sequence[DuplicatePair],
    map_points: Sequence[MapPoint],
    thumbnail: Callable[[Hit], str | None],
) -> str:
    """The report as one self-contained page.

    Args:
        manifest: Of the version; its list of files may still be empty.
        duplicates: Pairs to show.
        map_points: Points to show.
        thumbnail: A row -> data URI, or None where there is no picture to be had.
    """
    return page(
        f"Index {manifest.version}",
        _verdict(manifest),
        _numbers(manifest),
        _recall(manifest),
        section("Memory and disk", _memory(manifest)),
        section("Time to build", table((), _facts(manifest.timing))),
        _plan(manifest),
        _duplicates(duplicates, thumbnail),
        _map(map_points),
        section("Encoder", table((), _facts(manifest.encoder))),
        section("Software", table((), _facts(manifest.versions))),
    )


def _verdict(manifest: IndexManifest) -> Html:
    recall = manifest.recall
    found = f"recall@{recall.k} {recall.measured:.4f}"
    facts = f"{manifest.created_at}, from snapshot {manifest.snapshot}. "
    if manifest.meets_target:
        return element("p", facts, f"Measured {found}, target {recall.target:g}: may be published.")
    verdict = f"Measured {found}, under the target {recall.target:g}: not to be published."
    return element("p", facts, element("b", verdict, class_="bad"))


def _numbers(manifest: IndexManifest) -> Html:
    latency = manifest.latency
    measured = {
        "ms for one query, median": latency.single_ms_p50,
        "ms for one query, 99th percentile": latency.single_ms_p99,
        "queries/s, one at a time": latency.queries_per_s,
        "queries/s, in batches": latency.batch_queries_per_s,
    }
    return cards(
        [
            (f"vectors of {manifest.encoder.get('embedding_dim', '?')} dimensions", f"{manifest.vectors:,}"),
            ("shards", f"{len(manifest.shards):,}"),
            (f"recall@{manifest.recall.k}", f"{manifest.recall.measured:.4f}"),
            *(
                (name, f"{value:,.4g}" if value < 1000 else f"{value:,.0f}")
                for name, value in measured.items()
                if value
            ),
            ("in memory when open", _mebibytes(manifest.memory_bytes)),
        ]
    )


def _recall(manifest: IndexManifest) -> Html:
    recall = manifest.recall
    curve, tried = recall.curve or (), recall.trials or ()
    chosen = [trial for trial in [*curve, *tried] if _is_chosen(trial, manifest.config)][:1]
    rest = [trial for trial in tried if trial not in curve and trial not in chosen]
    shown = [(trial, "fastest at their recall") for trial in curve] + [(trial, "tried") for trial in rest]
    points = [_point(trial, series) for trial, series in shown if trial not in chosen]
    points += [_point(trial, "chosen", chosen=True) for trial in chosen]
    name = f"recall@{recall.k}"
    picture = plot(
        points,
        Axis("milliseconds for one query, median", log=True),
        Axis(name),
        line=[_point(trial) for trial in sorted(curve, key=lambda trial: trial.latency_ms)],
        target=Target(recall.target, f"target {recall.target:g}"),
    )
    header = [column for column in (*_MEASURES, *_SETTINGS) if any(column in _numbers_of(trial) for trial in curve)]
    rows = [
        ["chosen" if trial in chosen else "", *(_numbers_of(trial).get(column, "") for column in header)]
        for trial in curve
    ]
    method = f"{recall.method or ''} ({recall.queries or 0:,} queries)"
    return section("Recall and latency", picture, table(["", *header], rows), element("p", method, class_="faint"))


def _is_chosen(trial: CurvePoint, config: IndexConfig) -> bool:
    """Whether these are the settings that the version is searched with; exact search has none to differ in."""
    return isinstance(config, ExactConfig) or all(getattr(trial, name) == getattr(config, name) for name in _SETTINGS)


def _numbers_of(trial: CurvePoint) -> dict[str, float]:
    """What is shown of a point, in the order of its columns."""
    found = trial.to_dict()
    return {name: found[name] for name in (*_MEASURES, *_SETTINGS) if name in found}


def _point(trial: CurvePoint, series: str = "", *, chosen: bool = False) -> Point:
    tooltip = ", ".join(f"{name} {value:g}" for name, value in _numbers_of(trial).items())
    return Point(trial.latency_ms, trial.recall, tooltip, series, chosen)


def _memory(manifest: IndexManifest) -> Html:
    raw = manifest.vectors * manifest.encoder.get("embedding_dim", 0) * _FLOAT32_BYTES
    plan = manifest.config.plan or {}
    disk = sum(file.bytes for file in manifest.files)
    sizes = {
        "in memory when open": manifest.memory_bytes,
        "the vectors as float32": raw,
        "on disk": disk,
        "on disk, as planned": plan.get("disk_bytes"),
        "while building, as planned": plan.get("memory_bytes"),
    }
    rows = [
        (name, _mebibytes(size), f"{size / raw:.0%} of the float32 vectors" if raw else "")
        for name, size in sizes.items()
        if size
    ]
    return table((), rows)


def _plan(manifest: IndexManifest) -> Html:
    config = {name: value for name, value in manifest.config.to_dict().items() if name != "plan"}
    shards = [(shard.name, shard.rows) for shard in manifest.shards]
    return section(
        "Plan and configuration",
        element("h3", "As built"),
        table((), _facts(config)),
        element("h3", "As planned"),
        table((), _facts(manifest.config.plan or {})),
        element("h3", "Shards"),
        table(("shard", "rows"), shards),
    )


def _facts(facts: Mapping[str, Any]) -> list[tuple[str, str | float]]:
    return [
        (name, value if isinstance(value, (str, int, float)) and not isinstance(value, bool) else json.dumps(value))
        for name, value in facts.items()
    ]


def _mebibytes(size_bytes: int) -> str:
    size = size_bytes / 2**20
    return f"{size:,.0f} MiB" if size >= 10 else f"{size:.2g} MiB"


def _duplicates(pairs: Sequence[DuplicatePair], thumbnail: Callable[[Hit], str | None]) -> Html:
    if not pairs:
        return section("Near duplicates", element("p", "None found among the sampled pictures.", class_="faint"))
    shown = [
        element("div", hit_tile(pair.first, thumbnail), hit_tile(pair.second, thumbnail), class_="pair")
        for pair in pairs
    ]
    told = "Pairs of pictures that are nearly the same, by their cosine, as far as a sample shows."
    return section("Near duplicates", element("p", told, class_="faint"), element("div", *shown, class_="tiles"))


def _map(points: Sequence[MapPoint]) -> Html:
    shown = [
        Point(point.x, point.y, f"{point.image_id} {point.label}".strip(), point.label or "no label")
        for point in points
    ]
    if all(not point.label for point in points):
        shown = [Point(point.x, point.y, point.image_id) for point in points]
    picture = plot(shown, Axis("first principal component"), Axis("second principal component"))
    return section("Map of a sample", picture)
