from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import shutil
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.pictures import make_catalog, make_pictures
from benchmarks.reindex_cost import (
    ChangingCatalog,
    Cost,
    check_work,
    draw_figure,
    header,
    line_of,
    measure,
    run_command,
)
from fetch.source_version import RACY_S
from pipelines.cli.main import main as shelfmark
from tests.support.small_embed import embed_again

SIDE_PX = 96


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The distinct pictures, drawn once."""
    return make_pictures(tmp_path_factory.mktemp("drawn"), SIDE_PX)[0].parent


@pytest.fixture
def folder(tmp_path, drawn):
    """Has the distinct pictures, and nothing else."""
    shutil.copytree(drawn, tmp_path / drawn.name)
    return tmp_path


def run_here(arguments):
    """As a process of its own does, without paying for its start."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert shelfmark(arguments) == 0
    return json.loads(printed.getvalue())


def states(folder: Path) -> dict[str, tuple[str, int]]:
    """Name -> digest of a picture's bytes, and when it was modified."""
    files = sorted((folder / "catalog").iterdir())
    return {file.name: (hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_mtime_ns) for file in files}


def test_a_night_changes_as_many_pictures_as_asked_and_none_into_what_was_there_before(folder):
    catalog = ChangingCatalog(folder, 200, SIDE_PX)
    seen = [states(folder)]
    for count in (7, 200, 0):
        catalog.change(count)
        seen.append(states(folder))
        changed = [name for name in seen[-1] if seen[-1][name] != seen[-2][name]]
        assert len(changed) == count
        assert all(seen[-1][name][1] > seen[-2][name][1] for name in changed)
    digests = {digest for state in seen for digest, _ in state.values()}
    assert len(digests) == 200 + 7 + 200
    assert all(time.time() - when / 1e9 > RACY_S for _, when in seen[-1].values())


@pytest.mark.slow
def test_every_case_runs_and_does_what_had_changed(folder):
    costs = list(measure(folder, 60, [0.0, 0.1], "mobilenetv3small", SIDE_PX, run_here))
    assert [(cost.embedded, cost.reused, cost.fetched) for cost in costs] == [
        (60, 0, 60),
        (0, 60, 0),
        (6, 54, 6),
        (0, 60, 0),
    ]
    assert [cost.share for cost in costs] == [None, 0.0, 0.1, None]
    assert all(cost.seconds > 0 for cost in costs)


def test_a_command_runs_in_a_process_of_its_own(tmp_path):
    drawn = run_command(["sample-catalog", str(tmp_path / "c"), "--items", "1", "--views", "2", "--format", "json"])
    assert drawn == {"catalog": str(tmp_path / "c" / "catalog.csv"), "pictures": 2}
    with pytest.raises(RuntimeError, match=r"expected exit 0, found 2:\n.*unknown-command"):
        run_command(["unknown-command"])


def test_a_run_that_did_something_else_is_refused(folder):
    manifest = embed_again(make_catalog(folder, "c", 40, SIDE_PX), folder / "store")
    check_work(manifest, 40, 40)
    others = [
        dataclasses.replace(manifest, work={**manifest.work, "encoded": 1}),
        dataclasses.replace(manifest, work={**manifest.work, "fetched": 41}),
        dataclasses.replace(manifest, counts=dataclasses.replace(manifest.counts, embedded=39)),
        dataclasses.replace(manifest, counts=dataclasses.replace(manifest.counts, reused=1)),
    ]
    for other in others:
        with pytest.raises(RuntimeError, match=r"expected .* found"):
            check_work(other, 40, 40)


def test_every_row_of_a_catalog_longer_than_its_pictures_is_fetched_and_embedded(folder):
    catalog = make_catalog(folder, "long", 250, SIDE_PX)
    work = embed_again(catalog, folder / "store").work
    assert (work["fetched"], work["encoded"]) == (250, 250)


def test_a_line_has_the_share_of_the_first_runs_time():
    first = Cost("first run", 1000, 0, 1000, 80.0)
    night = Cost("1.00% changed", 10, 990, 10, 4.0, 0.01)
    assert line_of(night, first).split() == ["1.00%", "changed", "10", "990", "10", "4.0", "0.0500"]
    assert len(line_of(night, first)) == len(header())


def test_the_figure_shows_every_night_and_the_one_without_changes():
    costs = [
        Cost("first run", 1000, 0, 1000, 80.0),
        Cost("0.00% changed", 0, 1000, 0, 3.0, 0.0),
        Cost("1.00% changed", 10, 990, 10, 4.0, 0.01),
        Cost("100.00% changed", 1000, 0, 1000, 81.0, 1.0),
        Cost("reindex, nothing to do", 0, 1000, 0, 2.0),
    ]
    figure = ElementTree.fromstring(draw_figure(costs, "a <caption>"))
    name = "{http://www.w3.org/2000/svg}"
    tooltips = {title.text for title in figure.iter(f"{name}title")}
    assert tooltips == {"first run: 80.0 s", "1.00% changed: 4.0 s", "100.00% changed: 81.0 s"}
    texts = {text.text for text in figure.iter(f"{name}text")}
    assert {"nothing changed: 3.0 s", "a <caption>", "1", "100"} <= texts
    floor = next(float(line.attrib["y1"]) for line in figure.iter(f"{name}line") if line.get("class") == "target")
    assert all(float(circle.attrib["cy"]) < floor for circle in figure.iter(f"{name}circle"))
