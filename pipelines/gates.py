"""The gates between a built version and the world: what each measures, and what to do when it refuses."""

from __future__ import annotations

import dataclasses
import math

from index_builder.build import Drift
from store.index import IndexManifest
from store.measured import GateVerdict
from store.publication import Published


@dataclasses.dataclass(frozen=True, slots=True)
class Gate:
    """One gate's verdict.

    Attributes:
        gate: rollback, rejects, recall, shrink or overlap.
        value: What was measured; None where nothing could be.
        limit: What it may not fall below (recall, overlap) or rise above (rejects, shrink).
        passed: The verdict.
        says: One line for a person.
    """

    gate: str
    value: float | None
    limit: float
    passed: bool
    says: str

    @property
    def verdict(self) -> GateVerdict:
        """As a run's record keeps it."""
        return GateVerdict(self.gate, self.value, self.limit, self.passed)


def rollback_gate(published: Published, over_rollback: bool) -> Gate:
    """Whether what a person rolled back to may be published over; asked only where one did."""
    says = f"a person rolled back from {published.rolled_back_from} to {published.version}" + (
        ", --publish publishes over it" if over_rollback else "; --publish publishes over it"
    )
    return Gate("rollback", 0.0 if over_rollback else 1.0, 0.0, over_rollback, says)


def rejects_gate(rejected: int, rows: int, max_reject_ratio: float) -> Gate:
    """Whether enough of the catalog's rows have an embedding; `embed` has committed nothing where they have not."""
    ratio = rejected / rows if rows else 0.0
    says = f"{rejected:,} of {rows:,} rows rejected, expected at most --max_reject_ratio {max_reject_ratio:g}"
    return Gate("rejects", ratio, max_reject_ratio, ratio <= max_reject_ratio, says)


def recall_gate(manifest: IndexManifest) -> Gate:
    """Whether the version finds the neighbours that exact search finds."""
    recall = manifest.recall
    says = f"recall@{recall.k} {recall.measured:.4f}, expected at least --target_recall {recall.target:g}"
    return Gate("recall", recall.measured, recall.target, manifest.meets_target, says)


def shrink_gate(drift: Drift, max_shrink: float) -> Gate:
    """Whether the catalog kept its rows: half an export looks like a catalog too."""
    says = (
        f"{drift.vectors_before:,} -> {drift.vectors_after:,} pictures ({drift.gone:,} gone, {drift.added:,} added): "
        f"{drift.shrink:.1%} fewer, expected at most --max_shrink {max_shrink:g}"
    )
    return Gate("shrink", drift.shrink, max_shrink, drift.shrink <= max_shrink, says)


def least_pictures(published: int, max_shrink: float) -> int:
    """Pictures a catalog needs to pass the shrink gate, given how many the published version has."""
    return math.ceil(round(published * (1 - max_shrink), 6))


def overlap_gate(drift: Drift, min_overlap: float) -> Gate:
    """Whether unchanged pictures still have the neighbours that they had; where nobody can tell, it needs a person."""
    if drift.overlap is None:
        passed = drift.trivial or not min_overlap
        says = f"neighbours not compared, {drift.note}" + ("" if passed else "; --min_overlap 0 publishes without")
        return Gate("overlap", None, min_overlap, passed, says)
    says = (
        f"{drift.probes:,} unchanged pictures keep {drift.overlap:.1%} of their {drift.k} nearest neighbours, "
        f"expected at least --min_overlap {min_overlap:g}" + (f" ({drift.note})" if drift.note else "")
    )
    return Gate("overlap", drift.overlap, min_overlap, drift.overlap >= min_overlap, says)
