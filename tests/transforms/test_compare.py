from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.pipeline import AppliedPTransform, PipelineVisitor
from apache_beam.testing.util import assert_that, equal_to

from fetch.policy import ON_REQUEST
from store.location import Store
from store.rejects import Reason
from tests.support.past import catalog_row, digest_of, past_snapshot
from transforms import compare
from transforms.catalog import find_catalog
from transforms.compare import CompareRows, differs
from transforms.previous import PreviousRow, StaleMark, describe
from transforms.progress import ProgressFile
from transforms.rows import CatalogRow
from transforms.run_counts import RunCounts
from transforms.shards import MIN_SHARD_ROWS
from transforms.tasks import Reuse, Task

NO_PROGRESS = ProgressFile("")


def past_row(row: CatalogRow, place: int = 0, version: str | None = None) -> PreviousRow:
    """What a snapshot knows of a row, its version settled."""
    version = row.source_version if version is None else version
    description = describe(row.item_id, row.image_uri, version, row.attributes)
    return PreviousRow(row.image_id, row.image_uri, version, digest_of(row), place, description)


def compared(
    rows: Iterable[CatalogRow],
    past: Iterable[PreviousRow] = (),
    stale: Iterable[StaleMark] = (),
    *,
    same_base: bool = True,
    progress: ProgressFile = NO_PROGRESS,
) -> tuple[list[Task], list[Reuse], RunCounts]:
    sides: dict[str, list] = {"catalog": list(rows), "previous": list(past), "stale": list(stale)}
    found: dict[str, list] = {CompareRows.TASKS: [], CompareRows.REUSED: [], CompareRows.TALLIES: []}
    for output in compare._compare_bucket((0, sides), same_base, progress, compare._MayName("/catalog", ON_REQUEST)):
        found[output.tag].append(output.value)
    (tally,) = found[CompareRows.TALLIES]
    return found[CompareRows.TASKS], found[CompareRows.REUSED], tally


def test_a_row_as_it_was_is_reused_and_costs_nothing() -> None:
    row = catalog_row("a", "v1", colour="red")
    tasks, reused, tally = compared([row], [past_row(row, place=7)])
    assert (tasks, reused) == ([], [Reuse(row, 7, digest_of(row))])
    assert tally == RunCounts(reused=1, work={"unchanged": 1, "altered": 0, "gone": 0})


@pytest.mark.parametrize(
    ("uri", "version"),
    [("other.jpg", "v1"), ("a.jpg", "v2"), ("other.jpg", "v2"), ("a.jpg", "")],
    ids=["moved", "changed", "both", "version no longer told"],
)
def test_another_picture_or_another_version_of_it_is_looked_at(uri: str, version: str) -> None:
    """A version tells two states of one picture apart, not two pictures: "v1" of another URI is another picture."""
    before = past_row(catalog_row("a", "v1"))
    row = catalog_row("a", version, uri)
    assert compared([row], [before]) == ([Task(row, before)], [], RunCounts(work={"gone": 0}))


def test_without_versions_nothing_is_taken_for_unchanged() -> None:
    row = catalog_row("a")
    assert compared([row], [past_row(row)])[0] == [Task(row, past_row(row))]


TOLD = 'etag:"1"'


@pytest.mark.parametrize(
    ("uri", "version", "told", "same_base", "asked"),
    [
        ("a.jpg", "", "file:7-1", True, True),
        ("a.jpg", "", "file:7-1", False, False),  # a.jpg of another folder, of the same size and age
        ("http://host/a.jpg", "", TOLD, True, True),
        ("http://host/a.jpg", "", TOLD, False, True),
        ("http://host/a.jpg", "v1", TOLD, True, False),  # the catalog's word goes first
        ("http://host/a.jpg", "", "v1", True, False),  # nothing that a server ever said
        ("http://host/a.jpg", "", "", True, False),
    ],
)
def test_a_source_is_asked_about_what_it_said_itself_of_the_same_picture(
    uri: str, version: str, told: str, same_base: bool, asked: bool
) -> None:
    row = catalog_row("a", version, uri)
    before = past_row(catalog_row("a", uri=uri), version=told)
    (task,) = compared([row], [before], same_base=same_base)[0]
    assert task == Task(row, before, told if asked else "")
    moved = past_row(catalog_row("a", uri=f"{uri}2"), version=told)
    assert compared([row], [moved], same_base=same_base)[0] == [Task(row, moved)]


def test_a_new_row_has_no_past_and_a_lost_one_is_gone() -> None:
    new, kept = catalog_row("new"), catalog_row("kept", "v1")
    tasks, reused, tally = compared([new, kept], [past_row(kept, 1), past_row(catalog_row("lost", "v1"), 2)])
    assert tasks == [Task(new)]
    assert [reuse.place for reuse in reused] == [1]
    assert tally == RunCounts(reused=1, work={"unchanged": 1, "altered": 0, "gone": 1})


def test_the_first_of_two_equal_ids_is_kept_wherever_it_comes() -> None:
    second, first = catalog_row("a", "v1", position="row 2"), catalog_row("a", "v1", position="row 1")
    for rows in ([second, first], [first, second]):
        tasks, reused, tally = compared(rows, [past_row(first)])
        assert [reuse.row for reuse in reused] == [first]
        detail = "row 2: image_id a already stands at row 1"
        assert tasks == [Task(second, reason=Reason.DUPLICATE_IMAGE_ID.value, detail=detail)]
        assert tally.work == {"unchanged": 1, "altered": 0, "gone": 0}


def test_a_faulty_row_is_refused_takes_no_place_and_keeps_no_picture() -> None:
    faulty = dataclasses.replace(catalog_row("a", "v1", position="row 1"), fault="row 1: image_uri is empty")
    good = catalog_row("a", "v1", position="row 2")
    refused = Task(faulty, reason=Reason.MISSING_FIELD.value, detail="row 1: image_uri is empty")
    tasks, reused, _ = compared([faulty, good], [past_row(good)])
    assert (tasks, [reuse.row for reuse in reused]) == ([refused], [good])
    tasks, reused, tally = compared([faulty], [past_row(good)])
    assert (tasks, reused, tally.work["gone"]) == ([refused], [], 1)


def test_a_row_that_was_stale_and_is_unchanged_is_stale_no_more() -> None:
    row, other = catalog_row("a", "v1"), catalog_row("b", "v1")
    _, reused, tally = compared([row, other], [past_row(row), past_row(other, 1)], [StaleMark("a", 2)])
    assert [(reuse.row, reuse.stale_runs) for reuse in reused] == [(row, 0), (other, 0)]
    assert tally.work == {"unchanged": 2, "altered": 1, "gone": 0}
    changed = catalog_row("a", "v2")
    (task,) = compared([changed], [past_row(row)], [StaleMark("a", 2)])[0]
    assert task.previous == dataclasses.replace(past_row(row), stale_runs=2)


ROW = catalog_row("a", "v1", colour="red")


@pytest.mark.parametrize(
    ("reuse", "says_something_else"),
    [
        (Reuse(ROW, 3, ""), False),
        (Reuse(ROW, 4, ""), True),
        (Reuse(ROW, 3, "", stale_runs=1), True),
        *(
            (Reuse(row, 3, ""), True)
            for row in (
                dataclasses.replace(ROW, item_id="other"),
                dataclasses.replace(ROW, image_uri="other.jpg"),
                dataclasses.replace(ROW, source_version="v2"),
                dataclasses.replace(ROW, attributes={"colour": "blue"}),
                dataclasses.replace(ROW, attributes={}),
            )
        ),
    ],
)
def test_a_reused_row_differs_in_whatever_a_reader_sees(reuse: Reuse, says_something_else: bool) -> None:
    assert differs(reuse, past_row(ROW, 3)) is says_something_else
    assert differs(reuse, None)


def test_reused_rows_are_shown_as_progress(tmp_path: Path) -> None:
    progress = ProgressFile(str(tmp_path / "progress"))
    Path(progress.path).touch()
    rows = [catalog_row(name, "v1") for name in "abc"]
    compared([*rows, catalog_row("new")], map(past_row, rows), progress=progress)
    assert (progress.read().reused, progress.read().total, progress.read().embedded) == (3, 0, 0)


@pytest.mark.parametrize(("least_rows", "row_count"), [(10 * MIN_SHARD_ROWS, 3), (3, 10 * MIN_SHARD_ROWS)])
def test_a_small_side_meets_a_large_one_in_many_buckets(least_rows: int, row_count: int) -> None:
    keys = {compare._by_image_id(catalog_row(str(n)), least_rows, row_count)[0] for n in range(200)}
    assert keys == set(range(10))
    row = catalog_row("7")
    assert compare._by_image_id(row, least_rows, row_count) == (
        compare._by_image_id(past_row(row), least_rows, row_count)[0],
        row,
    )


@pytest.mark.parametrize("moved", [False, True])
def test_a_catalog_meets_the_newest_snapshot(tmp_path: Path, moved: bool) -> None:
    """All of it in a pipeline: files are read, rows meet by id, and a catalog elsewhere has other files of one name."""
    rows = [catalog_row("kept", "v1", colour="red"), catalog_row("seen", "file:7-1"), catalog_row("stale", "v1")]
    (tmp_path / "there").mkdir()
    (tmp_path / "catalog.csv").write_text("image_uri\nx.jpg\n")
    (tmp_path / "there" / "catalog.csv").write_text("image_uri\nx.jpg\n")
    catalog = str(tmp_path / "catalog.csv")
    store = Store(str(tmp_path / "store"))
    previous = past_snapshot(store, rows, part_rows=2, stale_runs={"stale": 2}, catalog=catalog)
    now = find_catalog(str(tmp_path / "there" / "catalog.csv") if moved else catalog)
    looked = dataclasses.replace(rows[1], source_version="")
    changed = dataclasses.replace(rows[2], source_version="v2")
    with beam.Pipeline() as pipeline:
        count = beam.pvalue.AsSingleton(pipeline | "Count" >> beam.Create([3]))
        made = pipeline | beam.Create([rows[0], looked, changed]).with_output_types(CatalogRow)
        outputs = made | CompareRows(previous, now, count, NO_PROGRESS, ON_REQUEST)
        expected = [
            Task(looked, past_row(rows[1], 1), "" if moved else "file:7-1"),
            Task(changed, dataclasses.replace(past_row(rows[2], 2), stale_runs=2)),
        ]
        assert_that(outputs.tasks, equal_to(expected), "Tasks")
        assert_that(outputs.reused, equal_to([Reuse(rows[0], 0, digest_of(rows[0]))]), "Reused")
        sums = [RunCounts(reused=1, work={"unchanged": 1, "altered": 0, "gone": 0})]
        assert_that(outputs.tallies, equal_to(sums), "Tallies")


def test_a_first_run_has_no_past(tmp_path: Path) -> None:
    (tmp_path / "catalog.csv").write_text("image_uri\nx.jpg\n")
    rows = [catalog_row("a", "v1"), catalog_row("b")]
    with beam.Pipeline() as pipeline:
        count = beam.pvalue.AsSingleton(pipeline | "Count" >> beam.Create([2]))
        made = pipeline | beam.Create(rows).with_output_types(CatalogRow)
        outputs = made | CompareRows(None, find_catalog(str(tmp_path / "catalog.csv")), count, NO_PROGRESS, ON_REQUEST)
        assert_that(outputs.tasks, equal_to([Task(row) for row in rows]), "Tasks")
        assert_that(outputs.reused, equal_to([]), "Reused")


def test_its_steps_keep_the_names_that_a_runner_shows(tmp_path: Path) -> None:
    class Names(PipelineVisitor):
        def __init__(self) -> None:
            self.found: set[str] = set()

        def enter_composite_transform(self, transform_node: AppliedPTransform) -> None:
            self.visit_transform(transform_node)

        def visit_transform(self, transform_node: AppliedPTransform) -> None:
            parts = transform_node.full_label.split("/")
            if parts[0] == "CompareRows" and len(parts) == 2:
                self.found.add(parts[1])

    (tmp_path / "catalog.csv").write_text("image_uri\nx.jpg\n")
    pipeline, names = beam.Pipeline(), Names()
    count = beam.pvalue.AsSingleton(pipeline | "Count" >> beam.Create([1]))
    rows = pipeline | beam.Create([catalog_row("a")]).with_output_types(CatalogRow)
    rows | CompareRows(None, find_catalog(str(tmp_path / "catalog.csv")), count, NO_PROGRESS, ON_REQUEST)
    pipeline.visit(names)
    read, join = {"ReadPrevious", "ReadStale"}, {"CatalogById", "PreviousById", "StaleById", "JoinById", "Compare"}
    assert names.found == read | join
