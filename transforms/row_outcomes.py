"""How a row ends, given what became of its picture: embedded, reused or rejected."""

from __future__ import annotations

import dataclasses

from store.rejects import Reason
from transforms.picture_outcomes import EmbeddedPicture, PictureOutcome, RefusedPicture, SameContent, Unchanged
from transforms.previous import PreviousRow
from transforms.rows import CatalogRow
from transforms.tasks import Reuse, Task


@dataclasses.dataclass(frozen=True, slots=True)
class EmbeddedRow:
    """A row and the embedding that was made for its picture; `row.source_version` is settled."""

    row: CatalogRow
    picture: EmbeddedPicture


@dataclasses.dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row without an embedding, and why."""

    row: CatalogRow
    reason: Reason
    detail: str


RowOutcome = EmbeddedRow | Reuse | RejectedRow


def end_refused(task: Task) -> RejectedRow:
    """The end of a row that never had a chance: its id or its picture is missing in the catalog."""
    return RejectedRow(task.row, Reason(task.reason), task.detail)


def end_row(task: Task, outcome: PictureOutcome, asked: PreviousRow | None, max_stale_runs: int) -> RowOutcome:
    """The end of a row whose picture came off the line.

    Args:
        task: The row. Rows that share an image_uri share the outcome.
        outcome: Of the picture.
        asked: The previous row whose source_version the source was asked about; None where it was fetched outright.
        max_stale_runs: For how many runs in a row an embedding is kept whose picture cannot be had.
    """
    match outcome:
        case EmbeddedPicture():
            return EmbeddedRow(_settled(task.row, outcome.source_version), outcome)
        case SameContent():
            # Of copies of one picture, a row keeps its own: then nothing about it has changed.
            mine = task.previous
            own = mine is not None and mine.content_sha256 == outcome.content_sha256
            place = mine.place if mine is not None and own else outcome.place
            return Reuse(_settled(task.row, outcome.source_version), place, outcome.content_sha256)
        case Unchanged():
            assert asked is not None  # nothing else is ever asked about
            mine = task.previous
            own = mine is not None and mine.content_sha256 == asked.content_sha256
            place = mine.place if mine is not None and own else asked.place
            return Reuse(_settled(task.row, asked.source_version), place, asked.content_sha256)
    return _end_without_picture(task, outcome, max_stale_runs)


def _settled(row: CatalogRow, source_version: str) -> CatalogRow:
    """The catalog's word on a picture's version goes before its source's."""
    return row if row.source_version else dataclasses.replace(row, source_version=source_version)


def _end_without_picture(task: Task, refused: RefusedPicture, max_stale_runs: int) -> Reuse | RejectedRow:
    previous = task.previous
    if not refused.passing or previous is None or previous.stale_runs >= max_stale_runs:
        return RejectedRow(task.row, refused.reason, refused.detail)
    # The version is that of the embedding that is kept, so that the next run sees that the picture's is another.
    version = previous.source_version if previous.image_uri == task.row.image_uri else ""
    row = dataclasses.replace(task.row, source_version=version)
    return Reuse(
        row, previous.place, previous.content_sha256, previous.stale_runs + 1, refused.reason.value, refused.detail
    )
