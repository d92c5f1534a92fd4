"""The embed pipeline on a real runner with a fake encoder, and the ways a run can end."""

from __future__ import annotations

import collections
import csv
import datetime
import shutil
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from encoder.decode import DecodeOptions
from fetch.fetcher import FetchOptions
from fetch.policy import policy_for
from pipelines import embed_pipeline
from pipelines.beam_flags import parse_beam_flags
from pipelines.embed import started_now
from pipelines.open_catalog import open_catalog
from store.errors import GateRefused, StoreError, UserError
from store.location import Store
from store.snapshot import SnapshotManifest, list_snapshots, snapshot_folder
from tests.support.fakes import FakeEncoderSource
from tests.support.hostile import make_hostile_folder
from tests.support.http_server import PictureServer
from tests.support.versions import name_of
from transforms.catalog import find_catalog
from transforms.embeddings import EmbedOptions
from transforms.progress import ProgressFile
from transforms.snapshot import SnapshotRequest

SOURCE = FakeEncoderSource()
QUICK_FETCH = FetchOptions(connect_timeout_s=2, read_timeout_s=1, deadline_s=8, backoff_s=0.01, max_image_bytes=4 << 20)


def run_embed(
    catalog: str, store: Path, *, max_reject_ratio: float = 1.0, source: FakeEncoderSource = SOURCE, **more: Any
) -> SnapshotManifest:
    snapshot, now = started_now()
    found = find_catalog(catalog)
    progress = store.parent / f"progress-{snapshot}"
    progress.touch()
    options = EmbedOptions(
        found.base,
        DecodeOptions(source.image_size),
        QUICK_FETCH,
        policy_for(found.base),
        ProgressFile(str(progress)),
        **more,
    )
    request = SnapshotRequest(snapshot, catalog, now.isoformat(), max_reject_ratio)
    manifest = embed_pipeline.run_pipeline(found, source, Store(str(store)), request, options, parse_beam_flags([]))
    seen = ProgressFile(str(progress)).read()
    assert (seen.total, seen.embedded, seen.rejected) == (
        manifest.counts.catalog_rows,
        manifest.counts.embedded,
        manifest.counts.rejected,
    )
    return manifest


def read_rows(store: Path, manifest: SnapshotManifest, prefix: str) -> list[dict[str, Any]]:
    folder = store / snapshot_folder(manifest.snapshot)
    names = [file.path for file in manifest.files if file.path.startswith(prefix)]
    return [row for name in names for row in pq.read_table(folder / name).to_pylist()]


def draw_pictures(folder: Path, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for index in range(count):
        pixels = np.full((40, 60, 3), rng.integers(0, 255, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"p{index:04d}.png")


def write_table(path: Path, rows: list[dict[str, str]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_every_row_of_a_table_ends_once(tmp_path):
    draw_pictures(tmp_path / "pictures", 40)
    rows = [{"image_id": f"id{n}", "image_uri": f"pictures/p{n:04d}.png", "category": "mug"} for n in range(40)]
    rows.insert(7, {**rows[3], "image_uri": "pictures/p0030.png"})  # a later row with the image_id of an earlier one
    rows.insert(0, {"image_id": "no-uri", "image_uri": "", "category": "mug"})
    rows.append({"image_id": "gone", "image_uri": "pictures/gone.png", "category": "cap"})
    rows.append({"image_id": "ftp", "image_uri": "ftp://host/x.png", "category": "cap"})
    write_table(tmp_path / "catalog.csv", rows)
    manifest = run_embed(str(tmp_path / "catalog.csv"), tmp_path / "store")
    assert manifest.counts.catalog_rows == len(rows)
    assert manifest.counts.embedded == 40
    assert manifest.rejected_by_reason == {
        "duplicate_image_id": 1,
        "missing_field": 1,
        "not_found": 1,
        "unsupported_scheme": 1,
    }
    embedded = read_rows(tmp_path / "store", manifest, "part-")
    assert sorted(row["image_id"] for row in embedded) == sorted(f"id{n}" for n in range(40))
    assert {row["image_uri"] for row in embedded if row["image_id"] == "id3"} == {"pictures/p0003.png"}
    for row in embedded:
        assert (row["width"], row["height"], dict(row["attributes"])) == (60, 40, {"category": "mug"})
        assert np.linalg.norm(row["embedding"]) == pytest.approx(1, abs=1e-5)
    rejected = {row["image_id"]: row for row in read_rows(tmp_path / "store", manifest, "rejected-")}
    assert rejected["gone"]["stage"] == "fetch"
    assert "catalog.csv row" in rejected["no-uri"]["detail"]
    assert "row 0000000005" in rejected["id3"]["detail"], "the detail names the row that keeps the id"


def test_a_folder_is_a_catalog_and_its_folders_are_categories(tmp_path):
    draw_pictures(tmp_path / "catalog" / "mugs", 3)
    draw_pictures(tmp_path / "catalog" / "caps", 2)
    (tmp_path / "catalog" / ".hidden").write_text("not a picture")
    manifest = run_embed(str(tmp_path / "catalog"), tmp_path / "store")
    embedded = read_rows(tmp_path / "store", manifest, "part-")
    assert collections.Counter(dict(row["attributes"])["category"] for row in embedded) == {"mugs": 3, "caps": 2}
    assert "mugs/p0000" in {row["item_id"] for row in embedded}
    assert manifest.counts.catalog_rows == 5
    globbed = run_embed(str(tmp_path / "catalog" / "m*" / "*.png"), tmp_path / "store")
    assert {row["image_id"] for row in read_rows(tmp_path / "store", globbed, "part-")} == {
        row["image_id"] for row in embedded if row["image_uri"].startswith("mugs/")
    }


def test_no_hostile_file_ends_the_run(tmp_path):
    expected = make_hostile_folder(tmp_path / "hostile")
    assert len(expected) >= 40
    manifest = run_embed(str(tmp_path / "hostile"), tmp_path / "store")
    ended = {row["image_uri"]: "embedded" for row in read_rows(tmp_path / "store", manifest, "part-")}
    ended |= {row["image_uri"]: row["reason"] for row in read_rows(tmp_path / "store", manifest, "rejected-")}
    assert set(ended) == set(expected)
    acceptable = {
        name: {outcome} if isinstance(outcome, str) else {reason.value for reason in outcome}
        for name, outcome in expected.items()
    }
    wrong = {name: (ended[name], acceptable[name]) for name in ended if ended[name] not in acceptable[name]}
    assert wrong == {}


def test_every_answer_of_a_server_ends_as_it_should(tmp_path):
    expected = {
        "/ok/1.jpg": "embedded",
        "/redirect": "embedded",
        "/429-then-200": "embedded",
        "/500-then-200": "embedded",
        "/slow?ms=20": "embedded",
        "/status/404": "not_found",
        "/status/403": "forbidden",
        "/status/500": "fetch_error",
        "/loop": "fetch_error",
        "/stall": "timeout",
        "/drip": "timeout",
        "/truncated": "fetch_error",
        "/endless": "too_large",
        "/lying-huge": "too_large",
    }
    with PictureServer() as server:
        write_table(tmp_path / "catalog.csv", [{"image_uri": server.url(path)} for path in expected])
        manifest = run_embed(str(tmp_path / "catalog.csv"), tmp_path / "store")
        ended = {row["image_uri"]: "embedded" for row in read_rows(tmp_path / "store", manifest, "part-")}
        ended |= {row["image_uri"]: row["reason"] for row in read_rows(tmp_path / "store", manifest, "rejected-")}
        assert {path: ended[server.url(path)] for path in expected} == expected


def test_relative_uris_start_from_the_table_behind_http(tmp_path):
    fetched = []

    def fetch(uri: str) -> bytes:
        fetched.append(uri)
        return b"image_uri\nok/1.jpg\n"

    catalog = open_catalog("http://host/shop/catalog.csv?v=2", Store(str(tmp_path)), name_of(1), fetch)
    assert fetched == ["http://host/shop/catalog.csv?v=2"]
    assert catalog.base == "http://host/shop"
    assert (tmp_path / snapshot_folder(name_of(1)) / "catalog-catalog.csv").is_file()


def test_too_many_rejects_commit_nothing_and_say_what(tmp_path):
    draw_pictures(tmp_path / "pictures", 3)
    (tmp_path / "pictures" / "broken.jpg").write_bytes(b"")
    with pytest.raises(GateRefused, match=r"1 of 4 rows were rejected \(empty 1\), more than --max_reject_ratio 0.2"):
        run_embed(str(tmp_path / "pictures"), tmp_path / "store", max_reject_ratio=0.2)
    assert list_snapshots(Store(str(tmp_path / "store"))) == []
    run_embed(str(tmp_path / "pictures"), tmp_path / "store", max_reject_ratio=0.25)
    assert len(list_snapshots(Store(str(tmp_path / "store")))) == 1


def test_the_precision_is_settled_on_the_catalogs_pictures(tmp_path):
    draw_pictures(tmp_path / "pictures", 5)
    (tmp_path / "pictures" / "a-broken.jpg").write_bytes(b"")
    source = FakeEncoderSource(given_precision=False)
    manifest = run_embed(str(tmp_path / "pictures"), tmp_path / "store", source=source)
    assert manifest.encoder["precision"] == "float32"
    assert manifest.counts.embedded == 5


def test_many_shards_lose_nothing(tmp_path):
    draw_pictures(tmp_path / "pictures", 10)
    rows = [{"item_id": f"item{n}", "image_uri": f"pictures/p{n % 10:04d}.png"} for n in range(2000)]
    write_table(tmp_path / "catalog.csv", rows)
    manifest = run_embed(str(tmp_path / "catalog.csv"), tmp_path / "store")
    assert manifest.counts.embedded == 2000
    assert len(manifest.files) == 4
    embedded = read_rows(tmp_path / "store", manifest, "part-")
    assert {row["item_id"] for row in embedded} == {row["item_id"] for row in rows}


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: folder / "none.csv", "no such file"),
        (lambda folder: folder / "nowhere", "found none"),
        (lambda folder: _touch(folder / "empty.csv", "image_uri\n"), "the catalog is empty"),
        (lambda folder: _touch(folder / "notes.txt", "hello"), "found another file"),
        (lambda folder: _touch(folder / "x.csv", "a,b\n1,2\n"), "expected a column named image_uri, found a, b"),
    ],
)
def test_a_wrong_catalog_is_one_line(tmp_path, make, says):
    with pytest.raises(UserError, match=says) as caught:
        find_catalog(str(make(tmp_path)))
    assert "\n" not in str(caught.value)


def _touch(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_full_disk_is_one_line_and_leaves_no_snapshot(tmp_path, small_disk):
    draw_pictures(tmp_path / "pictures", 200)
    source = FakeEncoderSource(embedding_dim=4096)
    rng_rows = [{"item_id": f"i{n}", "image_uri": f"pictures/p{n % 200:04d}.png"} for n in range(1500)]
    write_table(tmp_path / "catalog.csv", rng_rows)
    with open(small_disk / "ballast", "wb") as ballast:
        ballast.write(bytes(shutil.disk_usage(small_disk).free - 40_000))
    with pytest.raises(StoreError, match="no space left on device") as caught:
        run_embed(str(tmp_path / "catalog.csv"), small_disk / "store", source=source)
    assert "\n" not in str(caught.value)
    assert list_snapshots(Store(str(small_disk / "store"))) == []
    (small_disk / "ballast").unlink()


def test_the_root_cause_is_found_under_tracebacks():
    report = (
        "Traceback (most recent call last):\n  File x\nstore.errors.StoreError: cannot write /s/part: no space left "
        "[while running 'EmbedShards/EmbedShard']\n\nDuring handling:\nRuntimeError: store.errors.StoreError: cannot"
    )
    assert embed_pipeline.root_cause(report.split("\n\n", maxsplit=1)[0]) == "cannot write /s/part: no space left"


def test_names_of_runs_follow_the_clock():
    name, now = started_now()
    assert name.startswith(f"{now:%Y%m%dT%H%M}")
    assert abs((datetime.datetime.now(datetime.timezone.utc) - now).total_seconds()) < 60


@pytest.mark.parametrize("committed", [False, True])
def test_a_pipeline_that_does_not_end_well_says_whether_its_snapshot_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    """A job elsewhere may have committed before it was cancelled, or may yet."""
    store = Store(str(tmp_path / "store"))
    (tmp_path / "catalog").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "catalog" / "one.png")

    class Cancelled:
        def __init__(self, **_: Any) -> None: ...

        def run(self) -> Cancelled:
            return self

        def wait_until_finish(self) -> str:
            return "CANCELLED"

    def build(_: Any, __: Any, ___: Any, store: Store, request: SnapshotRequest, ____: Any) -> None:
        if committed:
            store.replace(f"{snapshot_folder(request.snapshot)}/manifest.json", b"{}")

    monkeypatch.setattr(beam, "Pipeline", Cancelled)
    monkeypatch.setattr(embed_pipeline, "build_pipeline", build)
    with pytest.raises(StoreError, match="CANCELLED") as raised:
        run_embed(str(tmp_path / "catalog"), tmp_path / "store")
    assert ("is committed" in str(raised.value)) == (len(list_snapshots(store)) == 1) == committed
    assert ("is not committed so far" in str(raised.value)) != committed
