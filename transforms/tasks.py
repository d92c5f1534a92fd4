"""What is still to be done about a catalog row: look at its picture, or copy the embedding it already has."""

from __future__ import annotations

import dataclasses

import apache_beam as beam

from transforms.coding import DataclassCoder
from transforms.previous import PreviousRow
from transforms.rows import CatalogRow


@dataclasses.dataclass(frozen=True, slots=True)
class Task:
    """A row whose picture must be looked at, or that is refused already.

    Attributes:
        row: As the catalog has it.
        previous: The row of the same image_id in the previous snapshot, None where there is none.
        known_version: What the picture's source may be asked about; "" where it must be fetched.
        reason: Why the row is refused, a `Reason`; "" for a good row.
        detail: One line for a person.
    """

    row: CatalogRow
    previous: PreviousRow | None = None
    known_version: str = ""
    reason: str = ""
    detail: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Reuse:
    """A row that gets an embedding of the previous snapshot.

    Attributes:
        row: As the catalog has it, its source_version settled.
        place: Row number of the embedding.
        content_sha256: Hex, of the picture it was made from.
        stale_runs: For how many runs in a row the picture could not be had; 0 for a row that is up to date.
        reason: Why it could not, a `Reason`.
        detail: One line for a person.
    """

    row: CatalogRow
    place: int
    content_sha256: str
    stale_runs: int = 0
    reason: str = ""
    detail: str = ""


class TaskCoder(DataclassCoder):
    """See DataclassCoder."""

    kind = Task


class ReuseCoder(DataclassCoder):
    """See DataclassCoder."""

    kind = Reuse


beam.coders.registry.register_coder(Task, TaskCoder)
beam.coders.registry.register_coder(Reuse, ReuseCoder)
