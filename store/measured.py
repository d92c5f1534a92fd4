"""What manifests and runs' records hold of an index: how it is searched, and what was measured of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from store.entries import Entry
from store.errors import StoreError


@dataclasses.dataclass(frozen=True, slots=True)
class CurvePoint(Entry):
    """Settings of a search and what they were measured to give; exact search has no settings.

    Attributes:
        recall: recall@k over the queries that choose settings.
        latency_ms: Median milliseconds of one query, alone.
        queries_per_s: One at a time.
        dimensions: Of the projection.
        leaves_to_search: Leaves looked into, in each shard.
        first_candidates: Rows that hashing passes on to int8 copies of the projected rows.
        candidates: Rows that are ranked again by their full-length codes.
    """

    recall: float
    latency_ms: float
    queries_per_s: float
    dimensions: int | None = None
    leaves_to_search: int | None = None
    first_candidates: int | None = None
    candidates: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Recall(Entry):
    """How many of the true neighbours a version finds.

    Attributes:
        k: Neighbours that recall is measured over.
        target: recall@k below which the version is not published.
        measured: recall@k.
        queries: How many rows were looked for.
        method: How it was measured, in words.
        curve: The settings that no others beat in both recall and latency, rising in both.
        trials: All settings that were timed, by rising recall; exact search has none.
    """

    k: int
    target: float
    measured: float
    queries: int | None = None
    method: str | None = None
    curve: tuple[CurvePoint, ...] | None = None
    trials: tuple[CurvePoint, ...] | None = None

    @property
    def result(self) -> Recall:
        """k, target and measured alone, as a run's record has them."""
        return Recall(self.k, self.target, self.measured)


@dataclasses.dataclass(frozen=True, slots=True)
class Latency(Entry):
    """How long a search takes on the machine that built the version.

    Attributes:
        single_ms_p50: Median milliseconds of one query, alone.
        single_ms_p99: The 99th percentile of the same.
        queries_per_s: One at a time.
        batch_queries_per_s: In batches of 256.
    """

    single_ms_p50: float
    single_ms_p99: float
    queries_per_s: float
    batch_queries_per_s: float


@dataclasses.dataclass(frozen=True, slots=True)
class ShardEntry(Entry):
    """A shard of a version: the name of its folder and how many rows it holds."""

    name: str
    rows: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ExactConfig(Entry):
    """A version that compares a query with every vector.

    Attributes:
        built: "anew".
        kind: "exact".
        plan: The plan that it was built by, as `index_builder` wrote it.
    """

    built: str | None = None
    kind: Literal["exact"] = "exact"
    plan: Mapping[str, Any] | None = None

    @property
    def dimensions(self) -> None:
        """There is no projection."""
        return None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TreeConfig(Entry):
    """A version that projects a query, searches trees, and ranks again.

    Attributes:
        built: "anew", or with the settings of which version.
        anew_because: Why the settings of the version before were not used.
        kind: "scann".
        dimensions: Of the projection.
        leaves: Of a shard's tree.
        leaves_to_search: Leaves looked into, in each shard.
        first_candidates: Rows that hashing passes on to int8 copies of the projected rows.
        candidates: Rows that are ranked again by their full-length codes.
        k: Neighbours that these settings were chosen for.
        training_rows: Rows that a shard's tree is trained on.
        shards: Number of shards.
        plan: The plan that it was built by, as `index_builder` wrote it.
    """

    built: str | None = None
    anew_because: str | None = None
    kind: Literal["scann"] = "scann"
    dimensions: int
    leaves: int
    leaves_to_search: int
    first_candidates: int
    candidates: int
    k: int
    training_rows: int
    shards: int
    plan: Mapping[str, Any] | None = None


IndexConfig = ExactConfig | TreeConfig


def read_config(found: Any) -> IndexConfig:
    """A manifest's `config`, of either kind.

    Raises:
        StoreError: It is of a kind that this release cannot search.
        KeyError: A field is missing.
        TypeError: It is no object, or a field is of another type.
    """
    kind = found["kind"]
    if kind == "exact":
        return ExactConfig.from_dict(found)
    if kind == "scann":
        return TreeConfig.from_dict(found)
    raise StoreError(f"index kind: expected exact or scann, found {kind!r:.60}; use the Shelfmark that wrote it")


@dataclasses.dataclass(frozen=True, slots=True)
class GateVerdict(Entry):
    """What a gate said of a version.

    Attributes:
        gate: rollback, rejects, recall, shrink or overlap.
        value: What was measured; None where nothing could be.
        limit: What it may not fall below (recall, overlap) or rise above (rollback, rejects, shrink).
        passed: The verdict.
    """

    gate: str
    value: float | None
    limit: float
    passed: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Cost(Entry):
    """What a million pictures cost at the pace of a run; without any number where none was encoded.

    Attributes:
        machine_hours_per_million: Hours of the machine.
        per_million: In the currency of `cost_per_hour`; None where nobody gave a price.
        cost_per_hour: Of the machine, in any currency.
    """

    machine_hours_per_million: float | None = None
    per_million: float | None = None
    cost_per_hour: float | None = None
