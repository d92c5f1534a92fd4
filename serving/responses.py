"""What is found, as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from fastapi import Response

from index_builder.search import Hit
from serving.options import MAX_K, MAX_VECTORS, ServeOptions
from serving.published import ServedVersion
from store.measured import ExactConfig, Recall


def json_response(document: Any, headers: dict[str, str] | None = None) -> Response:
    """200 with a document."""
    return Response(orjson.dumps(document), media_type="application/json", headers=headers)


def hit_documents(hits: Sequence[Hit]) -> list[dict[str, Any]]:
    """Answers to one query."""
    return [hit.to_dict() for hit in hits]


def index_document(published: ServedVersion, options: ServeOptions, takes_urls: bool) -> dict[str, Any]:
    """The version that is served, and what may be asked of it."""
    manifest = published.searcher.manifest
    recall = Recall(manifest.recall.k, manifest.recall.target, manifest.recall.measured, manifest.recall.queries)
    return {
        "version": published.version,
        "snapshot": published.snapshot,
        "created_at": manifest.created_at,
        "vectors": manifest.vectors,
        "shards": len(manifest.shards),
        "kind": "exact" if isinstance(manifest.config, ExactConfig) else "tree",
        "recall": recall.to_dict(),
        "memory_bytes": manifest.memory_bytes,
        "encoder": manifest.encoder,
        "untrained": published.untrained,
        "pictures": published.model is not None,
        "picture_urls": takes_urls,
        "limits": {
            "k": MAX_K,
            "vectors": MAX_VECTORS,
            "upload_bytes": options.max_upload_bytes,
            "pixels": options.max_pixels,
        },
    }
