"""What `reindex --dry_run` says, that it changes nothing, and that the run then does it."""

from __future__ import annotations

import pytest

from pipelines import reindex_plan
from pipelines.requests import ReindexRequest
from store.errors import UserError
from store.snapshot import list_snapshots, read_manifest
from tests.support.changing_server import ChangingServer
from tests.support.drawn_catalog import draw, put
from tests.support.http_server import jpeg
from tests.support.small_embed import SOURCE, write_catalog
from tests.support.small_reindex import reindex
from tests.support.versions import files_below
from transforms.previous import PreviousSnapshot

AND_THEN = "publish it if it passes the gates, then prune"


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """Plans for a store and a catalog, with the fake encoder; checks that nothing was written."""

    def choose(_, store, *__):
        names = list_snapshots(store)
        return SOURCE, PreviousSnapshot.of(store, read_manifest(store, names[-1])) if names else None, ""

    def plan(store, catalog):
        before = files_below(store)
        made = reindex_plan.plan_reindex(ReindexRequest(catalog, store))
        assert files_below(store) == before
        assert str(made)
        return made

    monkeypatch.setattr(reindex_plan, "choose_encoder", choose)
    return plan


def kinds(made):
    return {fate: count for fate, count in made.rows.items() if count}


def test_a_plan_is_what_the_run_then_does(tmp_path, plan):
    rows = [*draw(tmp_path, 10), {"image_id": "ghost", "image_uri": "ghost.jpg"}, {"image_id": "none", "image_uri": ""}]
    catalog, store = write_catalog(tmp_path / "c.csv", rows), tmp_path / "store"
    first = plan(store, catalog)
    assert (first.catalog_rows, kinds(first)) == (12, {"new": 11, "refused": 1})
    assert first.steps == ("fetch 11 pictures", "commit a snapshot", "build a version", AND_THEN)
    version = reindex(store, catalog).version
    idle = plan(store, catalog)
    assert kinds(idle) == {"unchanged": 11, "rejected": 1}
    assert idle.steps[0] == "fetch 1 pictures"
    assert "only if that finds a change" in idle.steps[1]
    assert (idle.published, reindex(store, catalog).outcome) == (version, "nothing_to_do")
    put(tmp_path / "3.jpg", 1003, when=2)
    rows[4]["colour"] = "blue"
    rows.append({"image_id": "none-either", "image_uri": ""})
    write_catalog(catalog, [*rows[1:], {"image_id": "new", "image_uri": put(tmp_path / "new.jpg", 9).name}])
    night = plan(store, catalog)
    expected = {"unchanged": 8, "relabelled": 1, "changed": 1, "new": 1, "rejected": 1, "refused": 1, "gone": 1}
    assert kinds(night) == expected
    assert night.steps[1:] == ("commit a snapshot", f"build a version, starting from {version}", AND_THEN)
    record = reindex(store, catalog)
    assert (record.outcome, record.counts["fetched"], record.counts["gone"]) == ("published", 2, 1)


def test_nothing_to_do_is_said_so(tmp_path, plan):
    catalog, store = write_catalog(tmp_path / "c.csv", draw(tmp_path, 3)), tmp_path / "store"
    reindex(store, catalog)
    assert plan(store, catalog).steps == ("do nothing",)


def test_servers_are_not_asked(tmp_path, plan):
    with ChangingServer() as server:
        server.pictures = {"/1.jpg": jpeg(1), "/2.jpg": jpeg(2)}
        rows = [{"image_uri": server.url(path)} for path in server.pictures]
        catalog, store = write_catalog(tmp_path / "c.csv", rows), tmp_path / "store"
        reindex(store, catalog)
        answered = server.answers.total()
        made = plan(store, catalog)
        assert kinds(made) == {"asked": 2}
        assert "ask the servers of 2 more" in made.steps[0]
        assert server.answers.total() == answered


def test_a_plan_is_made_on_this_machine(tmp_path):
    with pytest.raises(UserError, match="--dry_run compares on this machine"):
        reindex_plan.plan_reindex(ReindexRequest("c.csv", tmp_path, beam_flags=["--runner=FlinkRunner"]))


@pytest.mark.parametrize(
    ("rows", "count", "published", "expected"),
    [
        ({"refused": 0, "rejected": 0}, 100, 100, []),
        ({"refused": 0, "rejected": 0}, 100, 0, []),
        ({"refused": 20, "rejected": 0}, 100, 0, ["rejects will refuse: 20 of 100 rows rejected, "]),
        ({"refused": 5, "rejected": 10}, 100, 0, ["rejects may refuse: 15 of 100 rows rejected, "]),
        ({"refused": 0, "rejected": 0}, 80, 100, ["shrink will refuse: 100 -> 80 pictures, expected at least 90, "]),
        ({"refused": 0, "rejected": 4}, 93, 100, ["shrink may refuse: 100 -> 89 pictures, expected at least 90, "]),
        ({"refused": 0, "rejected": 4}, 94, 100, []),
        ({"refused": 30, "rejected": 5}, 100, 100, ["shrink will refuse: 100 -> 70", "rejects will refuse: 30 of"]),
    ],
)
def test_gates_that_rows_alone_decide_are_foreseen(rows, count, published, expected):
    found = reindex_plan.foresee_gates(ReindexRequest("c", "s"), rows, count, published)
    assert len(found) == len(expected)
    assert all(any(line.startswith(start) for line in found) for start in expected)


def test_half_a_catalog_is_told_which_gate_will_refuse(tmp_path, plan):
    rows = draw(tmp_path, 10)
    catalog, store = write_catalog(tmp_path / "c.csv", rows), tmp_path / "store"
    reindex(store, catalog)
    assert plan(store, catalog).gates == ()
    made = plan(store, write_catalog(catalog, rows[:5]))
    assert made.gates == ("shrink will refuse: 10 -> 5 pictures, expected at least 9, --max_shrink 0.1",)
    assert "gate          shrink will refuse" in str(made)
    assert made.to_dict()["gates"] == made.gates
