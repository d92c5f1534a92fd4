"""What a run says at its end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pipelines.trust import TRUST_FLAGS
from store.location import Store
from store.rejects import Reason
from store.snapshot import SnapshotManifest, snapshot_folder


def snapshot_document(store: Store, manifest: SnapshotManifest) -> dict[str, Any]:
    """The manifest, and where the snapshot lies."""
    document: dict[str, Any] = json.loads(manifest.to_json())
    return {"path": store.full_path(snapshot_folder(manifest.snapshot)), **document}


def snapshot_table(store: Store, manifest: SnapshotManifest) -> str:
    """A short table: rows, embedded, rejected by reason, pictures/s, bytes, where the snapshot is."""
    counts, encoder = manifest.counts, manifest.encoder
    size = sum(file.bytes for file in manifest.files)
    lines = [
        ("rows", f"{counts.catalog_rows:,}"),
        ("embedded", f"{counts.embedded:,}"),
        *_reuse(manifest),
        ("rejected", f"{counts.rejected:,}"),
        *((f"  {reason}", f"{count:,}") for reason, count in manifest.rejected_by_reason.items()),
        *((("", why),) if (why := why_not_allowed(manifest.rejected_by_reason)) else ()),
        (
            "pictures/s",
            f"{manifest.timing['pictures_per_s']:.1f} over {manifest.timing['seconds']:.1f} s, start-up included",
        ),
        ("bytes", f"{size:,} in {len(manifest.files)} files"),
        ("encoder", f"{encoder['backbone']} {encoder['precision']}, weights {encoder['weights']}"),
        ("snapshot", store.full_path(snapshot_folder(manifest.snapshot))),
    ]
    return "\n".join(f"{name:<14}{value}" for name, value in lines)


def why_not_allowed(rejected_by_reason: Mapping[str, int], before: str = "") -> str:
    """What to do about rows that name what their catalog may not; "" where there are none."""
    count = rejected_by_reason.get(Reason.NOT_ALLOWED.value, 0)
    if not count:
        return ""
    rows = "1 row names" if count == 1 else f"{count:,} rows name"
    return f"{before}{rows} what this catalog may not make us read; see {TRUST_FLAGS}"


def _reuse(manifest: SnapshotManifest) -> list[tuple[str, str]]:
    """What came from the previous snapshot, where there was one."""
    if manifest.previous_snapshot is None:
        return []
    work = manifest.work
    lines = [("reused", f"{manifest.counts.reused:,} of snapshot {manifest.previous_snapshot}")]
    for count, what in (("same_content", "same content"), ("stale", "stale")):
        if work[count]:
            lines.append((f"  {what}", f"{work[count]:,}"))
    return [*lines, ("fetched", f"{work['fetched']:,}"), ("gone", f"{work['gone']:,}")]
