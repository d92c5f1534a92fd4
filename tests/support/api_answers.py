"""Answers of the API, and the same by brute force over the snapshot."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from encoder.decode import Box, DecodeOptions, decode_picture
from serving.options import ServeOptions
from tests.support.fakes import FakeEncoder, FakeEncoderSource
from tests.support.serving import ITEMS, VIEWS, Answer, ServedStore

ROWS = ITEMS * VIEWS
Rows = dict[str, dict[str, Any]]


def options_of(store: ServedStore | str, **more: Any) -> ServeOptions:
    uri = store if isinstance(store, str) else store.uri
    return ServeOptions(uri, poll_interval_s=3600, threads=2, **more)


def nearest(
    rows: Rows,
    query: npt.ArrayLike,
    k: int,
    without: Collection[str] = (),
    where: Mapping[str, str] | None = None,
    group_by_item: bool = False,
) -> list[tuple[str, float]]:
    """Exact search in float64: image_ids and cosines, best first."""
    vector = np.asarray(query, np.float64)
    found = [
        (name, float(np.dot(np.asarray(row["embedding"], np.float64), vector) / np.linalg.norm(vector)))
        for name, row in rows.items()
        if name not in without and (where or {}).items() <= row["attributes"].items()
    ]
    best: dict[str, tuple[str, float]] = {}
    for name, score in sorted(found, key=lambda pair: -pair[1]):
        best.setdefault(rows[name]["item_id"] if group_by_item else name, (name, score))
    return list(best.values())[:k]


def check_hits(rows: Rows, hits: list[dict[str, Any]], expected: list[tuple[str, float]]) -> None:
    """Asserts that hits are those rows, spelled out in full."""
    assert [hit["image_id"] for hit in hits] == [name for name, _ in expected]
    np.testing.assert_allclose([hit["score"] for hit in hits], [score for _, score in expected], atol=2e-3)
    for hit in hits:
        assert hit["score"] == round(hit["score"], 6)
        row = rows[hit["image_id"]]
        assert {**hit, "score": 0} == {
            "score": 0,
            **{name: row[name] for name in ("item_id", "image_id", "image_uri", "attributes")},
        }


def embedding(data: bytes, crop: Box | None = None) -> npt.NDArray[np.float32]:
    """Of a picture, as the catalog's were made."""
    spec = FakeEncoderSource()._spec()
    picture = decode_picture(data, DecodeOptions(spec.image_size, resize=spec.resize), crop)
    (features,) = FakeEncoder().encode(picture.pixels[None])
    return features


def siblings(rows: Rows, image_id: str) -> set[str]:
    item_id = rows[image_id]["item_id"]
    return {name for name, row in rows.items() if row["item_id"] == item_id}


def hits_of(answer: Answer) -> list[dict[str, Any]]:
    assert answer.status == 200, answer.body
    (query,) = answer.json["queries"]
    hits: list[dict[str, Any]] = query["hits"]
    return hits


def problem_of(answer: Answer, status: int) -> str:
    """The detail of a problem document that is as it should be."""
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json"), answer.body
    document = answer.json
    assert (document["type"], document["status"]) == ("about:blank", status)
    assert document["title"]
    assert document["request_id"] == answer.headers["x-request-id"]
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    detail: str = document["detail"]
    return detail
