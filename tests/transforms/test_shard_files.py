"""What a shard's rows add to its files and to its counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from encoder.spec import EncoderSpec
from store.location import Store
from store.rejects import Reason
from store.snapshot import PART, REJECTED
from transforms.picture_outcomes import (
    EmbeddedPicture,
    PictureJob,
    PictureOutcome,
    RefusedPicture,
    SameContent,
    Unchanged,
)
from transforms.previous import PreviousRow, describe
from transforms.row_outcomes import EmbeddedRow, RejectedRow
from transforms.rows import CatalogRow
from transforms.run_counts import reject_digest
from transforms.shard_files import ShardFiles
from transforms.tasks import Reuse, Task

SPEC = EncoderSpec("Fake", "none", "0" * 64, "float32", 32, "pad", 4)
ROW = CatalogRow("id", "item", "a.jpg", "v1", {"colour": "red"}, "row 1")
JOB = PictureJob("a.jpg")
PREVIOUS = PreviousRow("id", "a.jpg", "v1", "aa" * 32, 7, describe("item", "a.jpg", "v1", {"colour": "red"}))
EMBEDDED = EmbeddedPicture(JOB, "v1", 30, 40, "bb" * 32, 2.0, np.array([1, 0, 0, 0], np.float32))
SAME = SameContent(JOB, "v1", "aa" * 32, 7)


def open_files(tmp_path: Path) -> ShardFiles:
    return ShardFiles(Store(str(tmp_path)), "snapshot", 3, SPEC)


def test_embedded_and_rejected_rows_have_a_file_each_and_reused_rows_none(tmp_path: Path) -> None:
    files = open_files(tmp_path)
    files.add(EmbeddedRow(ROW, EMBEDDED), Task(ROW), EMBEDDED)
    files.add(RejectedRow(ROW, Reason.FETCH_ERROR, "HTTP \udc80"), Task(ROW, PREVIOUS))
    files.add(Reuse(ROW, 7, "aa" * 32), Task(ROW, PREVIOUS), Unchanged(JOB))
    counts = files.close()
    embedded, rejected = (tmp_path / "snapshot" / file.path for file in counts.files)
    assert embedded.name.startswith(f"{PART}00003-")
    assert rejected.name.startswith(f"{REJECTED}00003-")
    (row,) = pq.read_table(embedded).to_pylist()
    assert (row["image_id"], row["width"], row["embedding"]) == ("id", 30, [1, 0, 0, 0])
    (row,) = pq.read_table(rejected).to_pylist()
    assert (row["stage"], row["reason"], row["detail"]) == ("fetch", "fetch_error", "HTTP ?")
    assert (counts.embedded, counts.reused, counts.rejected_by_reason) == (1, 1, {"fetch_error": 1})
    assert counts.rejects_digest == reject_digest("id", "a.jpg", "fetch_error")
    assert counts.fingerprints == (SPEC.fingerprint,)


def test_a_shard_without_rows_has_no_files(tmp_path: Path) -> None:
    assert open_files(tmp_path).close().files == ()


@pytest.mark.parametrize(
    ("outcome", "fetched", "encoded"),
    [
        (EMBEDDED, 1, 1),
        (SAME, 1, 0),
        (Unchanged(JOB), 0, 0),
        (RefusedPicture(JOB, Reason.FETCH_ERROR, ""), 0, 0),
        (RefusedPicture(JOB, Reason.TRUNCATED, ""), 1, 0),
        (RefusedPicture(JOB, Reason.NOT_FINITE, ""), 1, 1),
    ],
)
def test_a_picture_is_counted_by_how_far_it_came(
    tmp_path: Path, outcome: PictureOutcome, fetched: int, encoded: int
) -> None:
    files = open_files(tmp_path)
    files.count_picture(outcome)
    assert files.close().work == {"fetched": fetched, "encoded": encoded}


@pytest.mark.parametrize(
    ("reuse", "outcome", "count"),
    [
        (Reuse(ROW, 7, "aa" * 32), Unchanged(JOB), "unchanged"),
        (Reuse(ROW, 7, "aa" * 32), SAME, "same_content"),
        (Reuse(ROW, 7, "aa" * 32, 1, "fetch_error"), RefusedPicture(JOB, Reason.FETCH_ERROR, ""), "stale"),
    ],
)
def test_a_reused_row_is_counted_by_why_it_was(
    tmp_path: Path, reuse: Reuse, outcome: PictureOutcome, count: str
) -> None:
    files = open_files(tmp_path)
    files.add(reuse, Task(ROW, PREVIOUS), outcome)
    files.add(reuse, Task(ROW), outcome)
    work = files.close().work
    assert (work[count], work["added"]) == (2, 1)
