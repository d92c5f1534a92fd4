"""What each re-indexing run did: one small file a run, written when it starts and again when it ends."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
from collections.abc import Callable

from store.errors import StoreError
from store.location import Store
from store.measured import Cost, GateVerdict, Recall
from store.process import this_host, utc_now
from store.snapshot import SNAPSHOT_NAME, check_name, manifest_json, new_name

RUN_FORMAT_VERSION = 1

OUTCOMES = ("running", "published", "nothing_to_do", "refused", "failed", "interrupted", "held_off")
SUCCESSES = ("published", "nothing_to_do")
"""Outcomes after which the store is as new as the catalog."""

_FOLDER = "runs"
_SUFFIX = ".json"


@dataclasses.dataclass(frozen=True, slots=True)
class RunRecord:
    """One run; the fields of runs/<run>.json in their order.

    Attributes:
        run: Its name, which sorts by time, as a snapshot's does.
        catalog: Its URI.
        started_at: ISO 8601 with a zone.
        ended_at: The same; None while it runs, and for ever where it was killed.
        outcome: One of OUTCOMES.
        message: One line for a person, above all why it refused or failed; may be "".
        snapshot: The snapshot it made or worked with; None where it came to none.
        version: The version it built or found ready; published where the outcome says so.
        published_before: The version that was published when it started.
        counts: The snapshot manifest's `counts` and `work`, once the catalog is embedded.
        rejected_by_reason: Rejected rows by `store.rejects.Reason`.
        gates: The verdict of each gate that was asked.
        recall: k, target, measured, as in the version's manifest; None where none was measured.
        seconds: Wall time of each step.
        cost: What `estimate_cost` says of the pictures it encoded.
        host: The machine, as `store.process` names it.
        pid: Its process.
        format_version: Of this record.
    """

    run: str
    catalog: str
    started_at: str
    ended_at: str | None
    outcome: str
    message: str
    snapshot: str | None
    version: str | None
    published_before: str | None
    counts: dict[str, int]
    rejected_by_reason: dict[str, int]
    gates: tuple[GateVerdict, ...]
    recall: Recall | None
    seconds: dict[str, float]
    cost: Cost
    host: str
    pid: int
    format_version: int = RUN_FORMAT_VERSION

    @classmethod
    def begin(cls, catalog: str) -> RunRecord:
        """The record of a run of this process that begins now."""
        now = utc_now()
        return cls(
            run=new_name(now),
            catalog=catalog,
            started_at=now.isoformat(),
            ended_at=None,
            outcome="running",
            message="",
            snapshot=None,
            version=None,
            published_before=None,
            counts={},
            rejected_by_reason={},
            gates=(),
            recall=None,
            seconds={},
            cost=Cost(),
            host=this_host(),
            pid=os.getpid(),
        )

    @property
    def total_seconds(self) -> float | None:
        """From start to end; None where it has not ended."""
        if self.ended_at is None:
            return None
        return (_instant(self.ended_at) - _instant(self.started_at)).total_seconds()

    def to_json(self) -> bytes:
        """The record as UTF-8 JSON, format_version first."""
        return manifest_json(self)

    @classmethod
    def from_json(cls, data: bytes) -> RunRecord:
        """Reads a record; fields it does not know are left out.

        Raises:
            StoreError: It is not a record, or one of a newer format.
        """
        try:
            fields = json.loads(data)
            if fields["format_version"] > RUN_FORMAT_VERSION:
                raise StoreError(
                    f"run format: expected at most {RUN_FORMAT_VERSION}, found {fields['format_version']}; "
                    "use the Shelfmark that wrote it"
                )
            known = {field.name: fields[field.name] for field in dataclasses.fields(cls)}
            known["gates"] = tuple(GateVerdict.from_dict(gate) for gate in known["gates"])
            known["recall"] = None if known["recall"] is None else Recall.from_dict(known["recall"])
            known["cost"] = Cost.from_dict(known["cost"])
            record = cls(**known)
            _check(record)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise StoreError(f"not a run's record: {error!r}") from error
        return record


def _instant(text: str) -> datetime.datetime:
    instant = datetime.datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"expected a time with a zone, found {text!r}")
    return instant


def _check(record: RunRecord) -> None:
    """Refuses what a reader would stumble over.

    Raises:
        TypeError: A field is of another type.
        ValueError: A time cannot be read.
    """
    texts = ("run", "catalog", "outcome", "message", "host")
    maps = ("counts", "rejected_by_reason", "seconds")
    expected: dict[str, type] = {**dict.fromkeys(texts, str), **dict.fromkeys(maps, dict)}
    expected["pid"] = int
    for name, kind in expected.items():
        if not isinstance(getattr(record, name), kind):
            raise TypeError(f"{name}: found {getattr(record, name)!r}")
    numbers = [value for name in maps for value in getattr(record, name).values()]
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in numbers):
        raise TypeError(f"expected numbers in {', '.join(maps)}")
    for name in filter(None, (record.snapshot, record.version, record.published_before)):
        check_name(name, ValueError)
    _instant(record.started_at)
    _ = record.total_seconds


def estimate_cost(encoded: int, embed_seconds: float, cost_per_hour: float | None) -> Cost:
    """What a million pictures cost at the pace of a run; start-up and pictures that were only compared included.

    Args:
        encoded: Pictures that went through the model.
        embed_seconds: Wall time of the embedding step.
        cost_per_hour: Of the machine, in any currency; None where nobody said.

    Returns:
        The machine hours, and with a price what they cost; without any number where nothing was encoded.
    """
    if not encoded:
        return Cost()
    hours = embed_seconds / 3600 / encoded * 1_000_000
    return Cost(hours, None if cost_per_hour is None else hours * cost_per_hour, cost_per_hour)


def write_run(store: Store, record: RunRecord) -> None:
    """Writes a run's record, in place of the one from when it started.

    Raises:
        StoreError: It cannot be written.
        ValueError: Its name is not one that `store.snapshot.new_name` makes, or its outcome is none of OUTCOMES.
    """
    if not SNAPSHOT_NAME.fullmatch(record.run):
        raise ValueError(f"run: expected a name such as 20261121T031500Z-0a1b2c, found {record.run!r}")
    if record.outcome not in OUTCOMES:
        raise ValueError(f"outcome: expected one of {', '.join(OUTCOMES)}, found {record.outcome!r}")
    store.replace(f"{_FOLDER}/{record.run}{_SUFFIX}", record.to_json())


def read_runs(
    store: Store, last: int | None = None, on_unreadable: Callable[[str], object] = lambda _: None
) -> list[RunRecord]:
    """The records of the newest runs, oldest first; a file that is no record, or one of a newer format, is skipped.

    Args:
        store: Holds them.
        last: How many at most; None for all.
        on_unreadable: Told in a line of each file that is skipped, and why.
    """
    files = [name for name in store.list(_FOLDER) if SNAPSHOT_NAME.fullmatch(name.removesuffix(_SUFFIX))]
    records: list[RunRecord] = []
    for file in reversed([name for name in files if name.endswith(_SUFFIX)]):
        if last is not None and len(records) >= last:
            break
        try:
            record = RunRecord.from_json(store.read(f"{_FOLDER}/{file}"))
        except FileNotFoundError:
            continue  # deleted since it was listed
        except StoreError as error:
            on_unreadable(f"{store.full_path(f'{_FOLDER}/{file}')}: {error}")
            continue
        if f"{record.run}{_SUFFIX}" == file:
            records.append(record)
    return records[::-1]
