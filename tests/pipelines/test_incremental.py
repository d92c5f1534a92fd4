"""Runs on a store that has a snapshot already: what is fetched, what is embedded, what is kept, what is the same."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest

from encoder.source import KerasEncoderSource
from encoder.spec import EncoderSpec
from pipelines.incremental import choose_previous
from store.damage import ignore
from store.location import Store
from store.snapshot import list_snapshots
from tests.support.changing_server import ChangingServer
from tests.support.drawn_catalog import draw, put
from tests.support.http_server import jpeg
from tests.support.small_embed import embed_again, rows_of, write_catalog

NOTHING = {"fetched": 0, "encoded": 0}


def work(manifest, *names):
    return {name: manifest.work[name] for name in names}


def test_a_second_run_on_an_unchanged_catalog_fetches_nothing(tmp_path):
    catalog = write_catalog(tmp_path / "c.csv", draw(tmp_path, 40))
    first = embed_again(catalog, tmp_path / "store")
    assert work(first, "fetched", "encoded", "added") == {"fetched": 40, "encoded": 40, "added": 40}
    second = embed_again(catalog, tmp_path / "store")
    assert second.previous_snapshot == first.snapshot
    assert (second.counts.embedded, second.counts.reused) == (0, 40)
    assert second.work == dict.fromkeys(second.work, 0) | {"unchanged": 40}
    assert rows_of(tmp_path / "store", second) == rows_of(tmp_path / "store", first)


def test_only_what_changed_goes_through_the_model(tmp_path):
    rows = draw(tmp_path, 40)
    catalog = write_catalog(tmp_path / "c.csv", rows)
    embed_again(catalog, tmp_path / "store")
    put(tmp_path / "3.jpg", 1003, when=2)
    put(tmp_path / "4.jpg", 4, when=2)  # touched, not changed
    write_catalog(catalog, [*rows[1:], {**rows[0], "image_id": "new", "image_uri": put(tmp_path / "new.jpg", 99).name}])
    second = embed_again(catalog, tmp_path / "store")
    assert (second.counts.embedded, second.counts.reused) == (2, 38)
    assert second.work == {
        "fetched": 3,
        "encoded": 2,
        "unchanged": 37,
        "same_content": 1,
        "stale": 0,
        "altered": 1,
        "added": 1,
        "gone": 1,
    }


def test_the_catalogs_word_on_a_version_goes_before_a_look_at_the_file(tmp_path):
    rows = [{**row, "source_version": "1"} for row in draw(tmp_path, 4)]
    catalog = write_catalog(tmp_path / "c.csv", rows)
    embed_again(catalog, tmp_path / "store")
    for n in range(4):
        (tmp_path / f"{n}.jpg").unlink()
    put(tmp_path / "0.jpg", 7)
    write_catalog(catalog, [{**rows[0], "source_version": "2"}, *rows[1:]])
    second = embed_again(catalog, tmp_path / "store")
    assert (second.counts.embedded, second.counts.reused, second.counts.rejected) == (1, 3, 0)


def test_pictures_that_moved_need_no_model(tmp_path):
    rows = draw(tmp_path / "old", 30)
    catalog = write_catalog(tmp_path / "old" / "c.csv", rows)
    first = embed_again(catalog, tmp_path / "store")
    shutil.copytree(tmp_path / "old", tmp_path / "new")  # other times, another base
    moved = write_catalog(
        tmp_path / "new" / "c.csv", [{**row, "image_id": "x" + row["image_id"], "colour": "blue"} for row in rows]
    )
    second = embed_again(moved, tmp_path / "store")
    assert work(second, "fetched", "encoded", "same_content") == {"fetched": 30, "encoded": 0, "same_content": 30}
    before, after = rows_of(tmp_path / "store", first), rows_of(tmp_path / "store", second)
    for name, row in before.items():
        other = after["x" + name]
        assert other["embedding"] == row["embedding"]
        assert dict(other["attributes"]) == {"colour": "blue"}


def test_a_picture_in_many_rows_is_fetched_and_embedded_once(tmp_path):
    with ChangingServer() as server:
        server.pictures = {"/plain/a.jpg": jpeg(1), "/plain/b.jpg": jpeg(2)}
        uris = [server.url("/plain/a.jpg")] * 600 + [server.url("/plain/b.jpg")]
        rows = [{"image_id": f"id{n}", "image_uri": uri} for n, uri in enumerate(uris)]
        first = embed_again(write_catalog(tmp_path / "c.csv", rows), tmp_path / "store")
        assert server.answers == {200: 2}
        assert (first.counts.embedded, first.work["encoded"]) == (601, 2)
        second = embed_again(tmp_path / "c.csv", tmp_path / "store")
        assert server.answers == {200: 4}
        assert (second.counts.reused, second.work["encoded"], second.work["altered"]) == (601, 0, 0)


def test_a_server_that_knows_of_no_change_sends_no_picture(tmp_path):
    with ChangingServer() as server:
        server.pictures = {f"/{n}.jpg": jpeg(n) for n in range(5)}
        rows = [{"image_uri": server.url(path)} for path in server.pictures]
        embed_again(write_catalog(tmp_path / "c.csv", rows), tmp_path / "store")
        server.pictures["/3.jpg"] = jpeg(33)
        second = embed_again(tmp_path / "c.csv", tmp_path / "store")
        assert server.answers == {200: 6, 304: 4}
        assert (second.counts.embedded, second.counts.reused, second.work["fetched"]) == (1, 4, 1)


def test_what_cannot_be_had_is_kept_for_so_many_runs_and_marked(tmp_path):
    with ChangingServer() as server:
        server.pictures = {f"/{n}.jpg": jpeg(n) for n in range(3)}
        rows = [{"image_id": path, "image_uri": server.url(path)} for path in server.pictures]
        catalog, store = write_catalog(tmp_path / "c.csv", rows), tmp_path / "store"
        first = rows_of(store, embed_again(catalog, store))
        server.broken = True
        for run in (1, 2):
            stale = embed_again(catalog, store, max_stale_runs=2)
            assert (stale.counts.reused, stale.work["stale"], stale.counts.rejected) == (3, 3, 0)
            assert rows_of(store, stale) == first
            marks = rows_of(store, stale, "stale-")
            assert {mark["stale_runs"] for mark in marks.values()} == {run}
            assert {(mark["stage"], mark["reason"]) for mark in marks.values()} == {("fetch", "fetch_error")}
        assert embed_again(catalog, store, max_stale_runs=2).counts.rejected == 3
        server.broken = False
        assert embed_again(catalog, store).counts.embedded == 3


def test_a_stale_row_is_up_to_date_again_without_the_model(tmp_path):
    with ChangingServer() as server:
        server.pictures = {"/1.jpg": jpeg(1)}
        catalog = write_catalog(tmp_path / "c.csv", [{"image_uri": server.url("/1.jpg")}])
        embed_again(catalog, tmp_path / "store")
        server.broken = True
        embed_again(catalog, tmp_path / "store")
        server.broken = False
        mended = embed_again(catalog, tmp_path / "store")
        assert work(mended, "encoded", "stale", "unchanged", "altered") == {
            "encoded": 0,
            "stale": 0,
            "unchanged": 1,
            "altered": 1,
        }
        assert not rows_of(tmp_path / "store", mended, "stale-")


def test_a_run_that_is_to_commit_only_a_change_commits_none_without_one(tmp_path):
    rows = draw(tmp_path, 6)
    catalog = write_catalog(tmp_path / "c.csv", [*rows, {"image_id": "gone", "image_uri": "gone.jpg"}])
    store = tmp_path / "store"
    first = embed_again(catalog, store)
    same = embed_again(catalog, store, only_if_changed=True)
    assert (same.counts.reused, same.counts.rejected) == (6, 1)
    assert same.files == ()
    assert list_snapshots(Store(str(store))) == [first.snapshot]
    assert os.listdir(store / "embeddings") == [first.snapshot], "nothing is left behind"
    for changed in (
        [*rows],  # a rejected row less
        [*rows[1:]],
        [{**rows[0], "colour": "blue"}, *rows[1:]],
        [{**rows[0], "colour": "blue", "item_id": "other"}, *rows[1:]],
    ):
        before = len(list_snapshots(Store(str(store))))
        embed_again(write_catalog(catalog, changed), store, only_if_changed=True)
        assert len(list_snapshots(Store(str(store)))) == before + 1


def test_files_stay_few_however_many_runs_there_were(tmp_path):
    rows = draw(tmp_path, 30)
    catalog, store = tmp_path / "c.csv", tmp_path / "store"
    for run in range(5):
        put(tmp_path / f"{run}.jpg", 500 + run, when=2 + run)
        last = embed_again(write_catalog(catalog, rows), store)
    assert last.counts.reused == 29
    assert len(last.parts) == 2, "what was copied is one file, what is new another"


def test_many_shards_and_copies_lose_nothing(tmp_path):
    draw(tmp_path, 10)
    rows = [{"image_id": f"i{n}", "item_id": f"i{n}", "image_uri": f"{n % 10}.jpg"} for n in range(2500)]
    catalog, store = write_catalog(tmp_path / "c.csv", rows), tmp_path / "store"
    first = embed_again(catalog, store)
    write_catalog(catalog, [{**row, "colour": "red"} for row in rows[100:]])
    second = embed_again(catalog, store)
    assert (second.counts.reused, second.work["gone"], second.work["altered"]) == (2400, 100, 2400)
    before, after = rows_of(store, first), rows_of(store, second)
    assert set(after) == {row["image_id"] for row in rows[100:]}
    for name, row in after.items():
        np.testing.assert_array_equal(row["embedding"], before[name]["embedding"])


SPEC = EncoderSpec("Fake", "none", "0" * 64, "float32", 32, "pad", 16)


@pytest.mark.parametrize(
    ("spec", "precision", "found", "says"),
    [
        (SPEC, "float32", True, ""),
        (SPEC, "auto", True, ""),
        (SPEC, "bfloat16", False, "precision float32 -> bfloat16"),
        (
            EncoderSpec("Fake", "none", "1" * 64, "float32", 32, "pad", 16),
            "auto",
            False,
            "weights_sha256 000000000000 ->",
        ),
    ],
)
def test_only_a_snapshot_of_the_same_encoder_is_used_again(tmp_path, spec, precision, found, says):
    catalog = write_catalog(tmp_path / "c.csv", draw(tmp_path, 2))
    manifest = embed_again(catalog, tmp_path / "store")
    store = Store(str(tmp_path / "store"))
    previous, source, why = choose_previous(store, KerasEncoderSource(store, spec, precision), ignore)
    assert (previous is not None) is found
    assert (previous.name if previous else None) == (manifest.snapshot if found else None)
    assert source.precision == ("float32" if found else precision)
    assert (says in why) if says else not why


def test_a_store_without_snapshots_needs_no_explanation(tmp_path):
    store = Store(str(tmp_path))
    assert choose_previous(store, KerasEncoderSource(store, SPEC, "auto"), ignore)[::2] == (None, "")


@pytest.mark.slow
@pytest.mark.parametrize(
    "runner",
    [
        pytest.param(("--direct_running_mode=multi_processing", "--direct_num_workers=2"), id="multi_processing"),
        pytest.param(("--runner=PrismRunner",), id="prism", marks=pytest.mark.prism),
    ],
)
def test_every_runner_finds_the_same_change(tmp_path, runner):
    if "--runner=PrismRunner" in runner:
        location = f"--prism_location={os.environ['SHELFMARK_PRISM']}"
        runner = (*runner, location, "--experiments=disable_prism_server_singleton")
    rows = draw(tmp_path, 60)
    catalog = write_catalog(tmp_path / "c.csv", rows)
    embed_again(catalog, tmp_path / "store", beam_flags=runner)
    put(tmp_path / "3.jpg", 1003, when=2)
    put(tmp_path / "4.jpg", 4, when=2)
    write_catalog(catalog, [{**row, "colour": "blue"} for row in rows[1:]])
    shutil.copytree(tmp_path / "store", tmp_path / "other")
    here = embed_again(catalog, tmp_path / "store", only_if_changed=True)
    there = embed_again(catalog, tmp_path / "other", only_if_changed=True, beam_flags=runner)
    assert (there.counts, there.work) == (here.counts, here.work)
    assert (there.work["encoded"], there.work["fetched"], there.work["gone"]) == (1, 2, 1)
    expected, found = rows_of(tmp_path / "store", here), rows_of(tmp_path / "other", there)
    assert found.keys() == expected.keys()
    for image_id, row in found.items():
        assert {**row, "embedding": None} == {**expected[image_id], "embedding": None}
        np.testing.assert_allclose(row["embedding"], expected[image_id]["embedding"], atol=1e-6)
    assert embed_again(catalog, tmp_path / "other", only_if_changed=True, beam_flags=runner).files == ()
