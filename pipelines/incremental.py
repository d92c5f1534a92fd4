"""Which earlier snapshot a run takes embeddings from, and what to say where it takes none."""

from __future__ import annotations

import dataclasses

from encoder.source import KerasEncoderSource
from store.damage import OnDamage, whole_snapshots
from store.location import Store
from store.snapshot import SnapshotManifest
from transforms.previous import PreviousSnapshot

_NAMED = ("backbone", "weights_sha256", "precision", "image_size", "resize")


def choose_previous(
    store: Store, source: KerasEncoderSource, on_damage: OnDamage
) -> tuple[PreviousSnapshot | None, KerasEncoderSource, str]:
    """Finds the newest snapshot made by the same encoder.

    A precision of "auto" then means the one of that snapshot: were it chosen again on every run, a change of hardware
    or a close call would embed a whole catalog anew.

    Args:
        store: Where snapshots lie.
        source: The encoder asked for.
        on_damage: Told of snapshots that are not whole; an older one is taken then.

    Returns:
        The snapshot, or None; the source, its precision settled where there is a snapshot; and, where there are
        snapshots but none of this encoder, a line that says what differs from the newest.

    Raises:
        StoreError: The store cannot be read, or a snapshot is of another format.
    """
    newest: SnapshotManifest | None = None
    for manifest in whole_snapshots(store, on_damage):
        newest = newest or manifest
        precision = source.precision if source.precision != "auto" else str(manifest.encoder["precision"])
        spec = dataclasses.replace(source.spec, precision=precision)
        if spec.fingerprint == manifest.encoder["fingerprint"]:
            return PreviousSnapshot.of(store, manifest), dataclasses.replace(source, precision=precision), ""
    return None, source, _explain(newest, source) if newest else ""


def _explain(newest: SnapshotManifest, source: KerasEncoderSource) -> str:
    asked = dataclasses.replace(source.spec, precision=source.precision)
    changes = [
        f"{name} {_short(newest.encoder[name])} -> {_short(getattr(asked, name))}"
        for name in _NAMED
        if newest.encoder[name] != getattr(asked, name) and getattr(asked, name) != "auto"
    ]
    changes = changes or ["the preprocessing of another release"]
    return f"every picture is embedded anew: snapshot {newest.snapshot} has another encoder ({', '.join(changes)})"


def _short(value: object) -> str:
    return str(value)[:12]
