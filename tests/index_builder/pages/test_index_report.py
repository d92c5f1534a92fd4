from __future__ import annotations

import dataclasses
from typing import Any

from index_builder.pages.index_report import report_html
from index_builder.pages.overview import DuplicatePair, MapPoint
from index_builder.search.rows import Hit
from store.index import IndexFile, IndexManifest
from store.measured import CurvePoint, ExactConfig, Recall, ShardEntry, TreeConfig
from tests.support.pages import HOSTILE, PIXEL, read_safe_page
from tests.support.versions import LATENCY

SETTINGS: dict[str, Any] = {"dimensions": 64, "leaves_to_search": 8, "first_candidates": 100, "candidates": 40}


def trial(recall: float, latency_ms: float, **changes: int) -> CurvePoint:
    return CurvePoint(recall, latency_ms, 1000 / latency_ms, **{**SETTINGS, **changes})


CURVE = (trial(0.91, 0.4, leaves_to_search=4), trial(0.956, 0.7), trial(0.99, 2.0, leaves_to_search=32))
CONFIG = TreeConfig(
    leaves=300, k=10, training_rows=50_000, shards=1, plan={"disk_bytes": 400 << 20, "dimensions": [64, 96]}, **SETTINGS
)
RECALL = Recall(10, 0.95, 0.9534, 1000, "against exact search", CURVE)
MANIFEST = IndexManifest(
    version="20261121T031500Z-0a1b2c",
    created_at="2026-11-21T03:15:00+00:00",
    snapshot="20261120T031500Z-ffffff",
    encoder={"backbone": "resnet50", "embedding_dim": 2048, "fingerprint": "f00d"},
    vectors=123_456,
    shards=(ShardEntry("shard-00000", 123_456),),
    config=CONFIG,
    recall=RECALL,
    latency=LATENCY,
    memory_bytes=200 << 20,
    files=(IndexFile("shard-00000/codes.npy", 300 << 20, "00"),),
    timing={"seconds": 71.5, "train_s": 33.25},
    versions={"scann": "1.3.4"},
)
FIRST, SECOND = (Hit(f"image {n}", f"item {n}", f"{n}.jpg", 0.9912, {"colour": "red"}, n) for n in (1, 2))


def report(manifest: IndexManifest = MANIFEST, points: list[MapPoint] | None = None):
    points = [MapPoint(0.1, 0.2, "image 1", "shoes"), MapPoint(-1, 0, "image 2", "")] if points is None else points
    pairs = [DuplicatePair(FIRST, SECOND, 0.9912)]
    return read_safe_page(report_html(manifest, pairs, points, lambda hit: {"1.jpg": PIXEL}.get(hit.image_uri)))


def test_everything_measured_is_on_the_page() -> None:
    text = report().text
    for wanted in ("123,456", "0.9534", "target 0.95", "200 MiB", "964 MiB", "300 MiB", "400 MiB", "33.25", "resnet50"):
        assert wanted in text
    for wanted in (
        "20261121T031500Z-0a1b2c",
        "20261120T031500Z-ffffff",
        "against exact search (1,000 queries)",
        "1.3.4",
    ):
        assert wanted in text
    assert "under the target" not in text


def test_a_version_under_its_target_says_so() -> None:
    under = dataclasses.replace(MANIFEST, recall=dataclasses.replace(RECALL, measured=0.9))
    assert "under the target 0.95" in report(under).text


def test_the_chosen_setting_is_marked_on_the_curve() -> None:
    parsed = report()
    assert (parsed.classed("chosen"), parsed.classed("target"), parsed.classed("line")) == (1, 1, 1)
    assert "recall 0.956, latency_ms 0.7, queries_per_s 1428.57, dimensions 64, leaves_to_search 8" in parsed.text


def test_a_chosen_setting_beside_the_curve_is_marked_too_among_all_that_were_tried() -> None:
    slower = trial(0.97, 3.0, candidates=60)
    recall = dataclasses.replace(RECALL, measured=0.96, trials=(*CURVE, slower, trial(0.5, 4.0)))
    config = dataclasses.replace(CONFIG, candidates=60)
    parsed = report(dataclasses.replace(MANIFEST, recall=recall, config=config))
    assert parsed.classed("chosen") == 1
    assert "fastest at their recall" in parsed.text
    assert parsed.text.count("recall 0.97, latency_ms 3") == 1
    assert parsed.text.count("recall 0.91, latency_ms 0.4") == 1


def test_exact_search_is_one_point_and_needs_no_settings() -> None:
    recall = dataclasses.replace(RECALL, measured=1.0, curve=(CurvePoint(1.0, 0.3, 3333.3),))
    exact = dataclasses.replace(MANIFEST, config=ExactConfig(), recall=recall, files=())
    parsed = report(exact)
    assert parsed.classed("chosen") == 1
    assert "leaves_to_search" not in parsed.text


def test_near_duplicates_stand_side_by_side_or_leave_a_placeholder() -> None:
    parsed = report()
    assert (parsed.classed("pair"), parsed.classed("tile")) == (1, 2)
    assert [image["src"] for image in parsed.all("img")] == [PIXEL]
    assert "2.jpg" in parsed.text
    assert parsed.text.count("0.9912") == 2
    assert "None found" in report_html(MANIFEST, [], [], lambda _: None)


def test_the_map_names_labels_and_does_without_them() -> None:
    parsed = report()
    assert "image 1 shoes" in parsed.text
    assert "no label" in parsed.text
    assert "no label" not in report(points=[MapPoint(0, 0, "image 1", "")]).text


def test_hostile_ids_stay_text() -> None:
    hit = Hit(HOSTILE, HOSTILE, HOSTILE, 0.99, {HOSTILE: HOSTILE}, 1)
    hostile = dataclasses.replace(
        MANIFEST, snapshot=HOSTILE, encoder={HOSTILE: HOSTILE}, timing={HOSTILE: [HOSTILE]}, versions={"a": HOSTILE}
    )
    points = [MapPoint(0, 0, HOSTILE, HOSTILE)]
    parsed = read_safe_page(report_html(hostile, [DuplicatePair(hit, hit, 0.99)], points, lambda _: HOSTILE))
    assert parsed.text.count(HOSTILE) >= 14
