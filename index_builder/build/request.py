"""What a user asks of an index, and the version to build."""

from __future__ import annotations

import dataclasses
from typing import Any

from store.ranges import POSITIVE, RECALL_TARGET, check_ranges


@dataclasses.dataclass(frozen=True, kw_only=True)
class IndexOptions:
    """How an index is built.

    Attributes:
        target_recall: recall@k below which nothing is published.
        k: Neighbours that recall is measured over; as many as there are where a catalog has fewer.
        memory_limit_bytes: What all processes of this machine together may use; None for four fifths of what is free.
        dimensions: Of the projection; None to have it chosen by measurement.
        workers: Shards built at once; None for one per processor, as far as memory allows.
        seed: Of every sample.
    """

    target_recall: float = 0.95
    k: int = 10
    memory_limit_bytes: int | None = None
    dimensions: int | None = None
    workers: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses numbers that make no sense.

        Raises:
            UserError: The message names the field.
        """
        check_ranges(
            self,
            target_recall=RECALL_TARGET,
            k=POSITIVE,
            memory_limit_bytes=POSITIVE,
            dimensions=POSITIVE,
            workers=POSITIVE,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuildRequest(IndexOptions):
    """The version to build.

    Attributes:
        snapshot: Name of a snapshot; None for the newest.
        start_from: A version whose projection and settings are used again where they still reach the target, which
            saves most of a build's time; None to choose everything anew.
    """

    snapshot: str | None = None
    start_from: str | None = None

    @classmethod
    def of(cls, options: IndexOptions, snapshot: str | None, start_from: str | None = None) -> BuildRequest:
        """A version built by the options of a request that may have more fields."""
        fields: dict[str, Any] = {
            field.name: getattr(options, field.name) for field in dataclasses.fields(IndexOptions)
        }
        return cls(**fields, snapshot=snapshot, start_from=start_from)
