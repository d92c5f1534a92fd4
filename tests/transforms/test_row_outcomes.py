from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from store.rejects import Reason
from transforms.coding import DataclassCoder
from transforms.compare import differs
from transforms.picture_outcomes import EmbeddedPicture, PictureJob, RefusedPicture, SameContent, Unchanged
from transforms.previous import PreviousRow, describe
from transforms.row_outcomes import EmbeddedRow, RejectedRow, end_refused, end_row
from transforms.rows import CatalogRow
from transforms.tasks import Reuse, ReuseCoder, Task, TaskCoder

URI = "http://host/a.jpg"
ROW = CatalogRow("id", "item", URI, "", {"colour": "red"}, "row 1")
JOB = PictureJob(URI)
PREVIOUS = PreviousRow(
    "id", URI, 'etag:"1"', "aa" * 32, place=7, description=describe("item", URI, 'etag:"1"', {"colour": "red"})
)
DOWN = RefusedPicture(JOB, Reason.FETCH_ERROR, "HTTP 503", passing=True)


def end(outcome, previous=PREVIOUS, row=ROW, asked=None, max_stale_runs=2):
    return end_row(Task(row, previous), outcome, asked, max_stale_runs)


def test_an_embedded_row_takes_its_version_from_the_catalog_or_else_from_the_source():
    picture = EmbeddedPicture(JOB, 'etag:"2"', 3, 4, "bb" * 32, 1.0, np.ones(2, np.float32))
    assert end(picture) == EmbeddedRow(dataclasses.replace(ROW, source_version='etag:"2"'), picture)
    of_catalog = dataclasses.replace(ROW, source_version="v2")
    assert end(picture, row=of_catalog) == EmbeddedRow(of_catalog, picture)


def test_an_unchanged_row_keeps_its_place():
    reuse = end(Unchanged(JOB), asked=PREVIOUS)
    assert reuse == Reuse(dataclasses.replace(ROW, source_version='etag:"1"'), 7, "aa" * 32)
    assert not differs(reuse, PREVIOUS)


def test_a_row_that_shares_a_picture_that_is_unchanged_takes_its_embedding():
    other = dataclasses.replace(ROW, image_id="other")
    reuse = end(Unchanged(JOB), previous=None, row=other, asked=PREVIOUS)
    assert (reuse.place, reuse.row.source_version) == (7, 'etag:"1"')
    assert differs(reuse, None)


def test_of_copies_of_one_picture_a_row_keeps_its_own():
    same = SameContent(JOB, 'etag:"1"', "aa" * 32, place=3)
    assert end(same).place == 7
    assert end(same, previous=dataclasses.replace(PREVIOUS, content_sha256="cc" * 32)).place == 3
    assert end(same, previous=None).place == 3


def test_an_embedding_is_kept_for_so_many_runs_while_its_server_is_down():
    reuse = end(DOWN)
    assert (reuse.stale_runs, reuse.place, reuse.row.source_version) == (1, 7, 'etag:"1"')
    assert (reuse.reason, reuse.detail) == ("fetch_error", "HTTP 503")
    assert end(DOWN, previous=dataclasses.replace(PREVIOUS, stale_runs=1)).stale_runs == 2
    rejected = RejectedRow(ROW, Reason.FETCH_ERROR, "HTTP 503")
    assert end(DOWN, previous=dataclasses.replace(PREVIOUS, stale_runs=2)) == rejected
    assert end(DOWN, max_stale_runs=0) == rejected
    assert end(DOWN, previous=None) == rejected


@pytest.mark.parametrize("reason", [Reason.NOT_FOUND, Reason.TRUNCATED])
def test_a_lasting_cause_keeps_nothing(reason):
    assert end(RefusedPicture(JOB, reason, "gone")) == RejectedRow(ROW, reason, "gone")


def test_a_stale_row_never_carries_the_version_of_a_picture_that_it_does_not_show():
    newer = dataclasses.replace(ROW, source_version="v2")
    kept = end(DOWN, row=newer, previous=dataclasses.replace(PREVIOUS, source_version="v1"))
    assert kept.row.source_version == "v1"
    moved = dataclasses.replace(ROW, image_uri="http://host/b.jpg", source_version="v2")
    assert end(DOWN, row=moved).row.source_version == ""


def test_a_row_refused_before_it_was_fetched_says_why():
    task = Task(ROW, reason="duplicate_image_id", detail="row 2: ...")
    assert end_refused(task) == RejectedRow(ROW, Reason.DUPLICATE_IMAGE_ID, "row 2: ...")


@pytest.mark.parametrize(
    ("change", "altered"),
    [
        ({}, False),
        ({"attributes": {"colour": "blue"}}, True),
        ({"item_id": "other"}, True),
        ({"attributes": {}}, True),
        ({"position": "row 99"}, False),
    ],
)
def test_what_alters_a_row(change, altered):
    row = dataclasses.replace(ROW, source_version='etag:"1"', **change)
    assert differs(Reuse(row, 7, "aa" * 32), PREVIOUS) is altered
    assert differs(Reuse(row, 8, "aa" * 32), PREVIOUS)
    assert differs(Reuse(row, 7, "aa" * 32, stale_runs=1), PREVIOUS)


@pytest.mark.parametrize(
    ("coder", "element"),
    [
        (TaskCoder(), Task(ROW, PREVIOUS, 'etag:"1"')),
        (TaskCoder(), Task(ROW, None, reason="missing_field", detail="é\n")),
        (ReuseCoder(), Reuse(ROW, 1 << 40, "aa" * 32, 2, "timeout", "slow")),
    ],
)
def test_elements_come_back_as_they_were_sent(coder: DataclassCoder, element):
    assert coder.decode(coder.encode(element)) == element
    assert coder.encode(coder.decode(coder.encode(element))) == coder.encode(element)
