"""The embed pipeline with a fake encoder, for tests that run it many times, here or in a process that is killed."""

from __future__ import annotations

import csv
import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from fetch.fetcher import FetchOptions
from fetch.trust import AUTO, Trust
from pipelines.beam_flags import parse_beam_flags
from pipelines.embed import embed_options, new_progress, started_now
from pipelines.embed_pipeline import run_pipeline
from pipelines.requests import EmbedRequest
from store.damage import is_rotten, setting_aside, whole_snapshots
from store.errors import StoreError
from store.location import Store
from store.snapshot import SnapshotManifest, snapshot_folder
from tests.support.fakes import FakeEncoderSource
from transforms.catalog import find_catalog
from transforms.previous import PreviousSnapshot
from transforms.snapshot import SnapshotRequest

SOURCE = FakeEncoderSource()
QUICK_FETCH = FetchOptions(connect_timeout_s=60, read_timeout_s=60, deadline_s=120, attempts=2, backoff_s=0.001)


def embed_again(
    catalog: Path,
    store: Path,
    *,
    full: bool = False,
    only_if_changed: bool = False,
    least_rows: int = 0,
    max_stale_runs: int = 3,
    trust: Trust = AUTO,
    base: str = "",
    thumbnails: bool = False,
    source: FakeEncoderSource = SOURCE,
    beam_flags: tuple[str, ...] = (),
) -> SnapshotManifest:
    """Embeds a catalog as `shelfmark embed` does, taking what the newest whole snapshot has."""
    place = Store(str(store))
    aside = setting_aside(place, print)
    newest = None if full else next(whole_snapshots(place, aside), None)
    previous = PreviousSnapshot.of(place, newest) if newest is not None else None
    snapshot, now = started_now()
    found = find_catalog(str(catalog), base=base)
    asked = EmbedRequest(
        catalog,
        store,
        max_stale_runs=max_stale_runs,
        thumbnails=thumbnails,
        trust=trust.trust,
        allow_local=trust.allow_local,
        allow_hosts=trust.allow_hosts,
    )
    request = SnapshotRequest(snapshot, str(catalog), now.isoformat(), 1.0, only_if_changed, least_rows)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            options = embed_options(asked, found, source, previous, new_progress(scratch))
            options = dataclasses.replace(options, fetch=QUICK_FETCH)
            return run_pipeline(found, source, place, request, options, parse_beam_flags(list(beam_flags)))
    except StoreError:
        if previous is None or not is_rotten(place, previous.name, aside):
            raise
    return embed_again(
        catalog, store, only_if_changed=only_if_changed, least_rows=least_rows, max_stale_runs=max_stale_runs,
        trust=trust, base=base, thumbnails=thumbnails, source=source, beam_flags=beam_flags,
    )  # fmt: skip


def rows_of(store: Path, manifest: SnapshotManifest, prefix: str = "part-") -> dict[str, dict[str, Any]]:
    """image_id -> row, of the snapshot's files of one kind."""
    folder = store / snapshot_folder(manifest.snapshot)
    tables = [pq.read_table(folder / file.path) for file in manifest.files if file.path.startswith(prefix)]
    rows = [row for table in tables for row in table.to_pylist()]
    found = {row["image_id"]: row for row in rows}
    assert len(found) == len(rows), "an image_id stands twice"
    return found


def write_catalog(path: Path, rows: list[dict[str, str]]) -> Path:
    """A CSV with whatever columns the rows have."""
    columns = sorted({name for row in rows for name in row} | {"image_uri"})
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return path
