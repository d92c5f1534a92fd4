"""What each re-indexing run of a store did: behind `shelfmark runs`."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any

from pipelines.log import LOG
from pipelines.requests import Uri
from pipelines.results import Lines, Result
from store.location import Store
from store.process import is_running, this_host
from store.ranges import POSITIVE, check_ranges
from store.runs import RunRecord, read_runs

DIED = "died"
"""Shown for a run whose record says that it runs, while its process on this machine is gone."""


@dataclasses.dataclass(frozen=True)
class RunsRequest:
    """Which runs to list.

    Attributes:
        store: Where they were recorded.
        last: Newest runs to show.
    """

    store: Uri
    last: int = dataclasses.field(default=20, kw_only=True)

    def __post_init__(self) -> None:
        """Refuses numbers that make no sense."""
        check_ranges(self, last=POSITIVE)


@dataclasses.dataclass(frozen=True)
class Runs(Result):
    """The newest runs of a store, oldest first."""

    store_uri: str
    records: list[RunRecord]

    def to_dict(self) -> dict[str, Any]:
        """The record of each."""
        return {"runs": [json.loads(record.to_json()) for record in self.records]}

    def summary(self) -> Lines:
        """A line to each run."""
        return [(record.run, f"{record.outcome} {record.message}".rstrip()) for record in self.records]


def list_runs(request: RunsRequest) -> Runs:
    """The newest runs, oldest first.

    Raises:
        StoreError: The store cannot be read.
    """
    store = Store(os.fspath(request.store))
    return Runs(store.uri, [as_seen_from_here(record) for record in read_runs(store, request.last, LOG.warning)])


def as_seen_from_here(record: RunRecord) -> RunRecord:
    """The record, its outcome `died` where it says that it runs and its process on this machine is gone."""
    gone = record.outcome == "running" and record.host == this_host() and not is_running(record.pid)
    return dataclasses.replace(record, outcome=DIED) if gone else record
