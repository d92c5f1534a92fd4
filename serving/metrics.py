"""What the server tells Prometheus. With several workers the numbers are summed over them by prometheus_client."""

from __future__ import annotations

import os
import re
from pathlib import Path

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

from serving.problem import Problem

CONTENT_TYPE = prometheus_client.CONTENT_TYPE_LATEST

_FAST_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_SLOW_S = (0.1, 0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

REQUESTS = Counter("shelfmark_requests", "Requests answered", ["route", "method", "status"])
REQUEST_S = Histogram("shelfmark_request_duration_seconds", "From head to answer", ["route"], buckets=_FAST_S)
IN_FLIGHT = Gauge("shelfmark_requests_in_flight", "Requests being answered", multiprocess_mode="livesum")
PICTURES_WAITING = Gauge("shelfmark_pictures_waiting", "Query pictures in the house", multiprocess_mode="livesum")
QUERIES_WAITING = Gauge("shelfmark_queries_waiting", "Searches in the house", multiprocess_mode="livesum")
BATCH_PICTURES = Histogram("shelfmark_batch_pictures", "Pictures in a batch of the model", buckets=_SIZES)
BATCH_QUERIES = Histogram("shelfmark_batch_queries", "Queries searched together", buckets=_SIZES)
DECODE_S = Histogram("shelfmark_decode_seconds", "Decoding one picture", buckets=_FAST_S)
ENCODE_S = Histogram("shelfmark_encode_seconds", "One batch in the model", buckets=_FAST_S)
SEARCH_S = Histogram("shelfmark_search_seconds", "One batch in the index", buckets=_FAST_S)
REFUSED = Counter("shelfmark_refused", "Requests turned away for want of room", ["reason"])
PICTURES_REJECTED = Counter("shelfmark_pictures_rejected", "Query pictures that cannot be embedded", ["reason"])
FETCHES = Counter("shelfmark_fetches", "Pictures fetched by URL", ["outcome"])
THUMBNAILS = Counter("shelfmark_thumbnails", "Thumbnails asked for", ["outcome"])
THUMBNAIL_BYTES = Gauge("shelfmark_thumbnail_cache_bytes", "Finished thumbnails kept", multiprocess_mode="livesum")
INDEX = Gauge(
    "shelfmark_index_info",
    "1 for the version that is served",
    ["version", "snapshot", "encoder", "precision"],
    multiprocess_mode="livemax",
)
INDEX_VECTORS = Gauge("shelfmark_index_vectors", "Pictures in the index", multiprocess_mode="livemax")
INDEX_RECALL = Gauge("shelfmark_index_recall", "Recall as its build measured it", multiprocess_mode="livemin")
INDEX_LOADED = Gauge("shelfmark_index_loaded_timestamp_seconds", "When it was opened", multiprocess_mode="livemin")
SWAPS = Counter("shelfmark_swaps", "Versions tried after the first", ["outcome"])
SWAP_S = Histogram("shelfmark_swap_seconds", "Opening and checking a version", buckets=_SLOW_S)
VERSION_REFUSED = Gauge(
    "shelfmark_version_refused", "1 while CURRENT names a version that was refused", multiprocess_mode="livemax"
)

# The series exist from the start, so that a rate over them is 0 and not absent.
for _reason in ("pictures_full", "queries_full", "uploads_full", "thumbnails_full", "fetches_full"):
    REFUSED.labels(_reason)
for _outcome in ("swapped", "refused"):
    SWAPS.labels(_outcome)
for _outcome in ("hit", "made", "gone"):
    THUMBNAILS.labels(_outcome)


def render() -> bytes:
    """All metrics as Prometheus text; of all workers where there are several.

    Raises:
        Problem: The workers' common folder is gone.
    """
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if not folder:
        return generate_latest()
    if not Path(folder).is_dir():
        raise Problem(503, "expected the workers' metrics in a folder, found it gone")
    _forget_dead_workers(Path(folder))
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    return generate_latest(registry)


def _forget_dead_workers(folder: Path) -> None:
    """Drops the gauges of workers that have died; uvicorn starts others in their place."""
    for path in folder.glob("gauge_live*.db"):
        found = re.search(r"_(\d+)\.db$", path.name)
        if found and not Path(f"/proc/{found[1]}").exists():
            multiprocess.mark_process_dead(int(found[1]))
