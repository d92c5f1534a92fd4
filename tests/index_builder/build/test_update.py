from __future__ import annotations

import dataclasses
import io
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.vectors import write_snapshot
from index_builder.build.builder import build_index, build_version
from index_builder.build.plan import Plan, plan_index
from index_builder.build.previous_version import StartAnew, check_comparable, near_trials, read_previous
from index_builder.build.request import BuildRequest
from index_builder.build.shard import ShardTask, build_shard
from index_builder.search.engine import Settings
from index_builder.search.searcher import PROJECTION_FILE, Searcher
from store.errors import GateRefused, UserError
from store.index import IndexManifest, list_versions, read_index_manifest, version_folder
from store.location import Store
from store.measured import TreeConfig
from store.publication import current_version
from store.snapshot import SnapshotManifest, commit, list_snapshots, new_name, read_manifest, snapshot_folder
from tests.index_builder.conftest import DIMENSION, ROWS, Indexed, use_trees
from tests.support.versions import day_at, verify_files

REQUEST = BuildRequest(target_recall=0.95)


def here(tasks: Sequence[ShardTask], workers: int) -> None:
    del workers
    for task in tasks:
        build_shard(task)


def change_rows(store: Store, day: int, seed: int = 0, share: float = 0.02) -> str:
    """Writes a snapshot that lacks some rows of the first one and has a few new vectors; returns its name."""
    before = read_manifest(store, list_snapshots(store)[0])
    rng = np.random.default_rng(seed)
    name, files = new_name(day_at(day)), []
    Path(store.uri, snapshot_folder(name)).mkdir(parents=True)
    for number, file in enumerate(before.files):
        table = pq.read_table(Path(store.uri, snapshot_folder(before.snapshot), file.path))
        metadata = table.schema.metadata
        kept = table.filter(rng.random(len(table)) >= share)
        noisy = np.abs(rng.normal(size=(1, DIMENSION))).astype(np.float32)
        fresh = table.slice(0, 1).to_pylist()[0]
        fresh |= {"image_id": f"new-{number}", "embedding": (noisy / np.linalg.norm(noisy))[0].tolist()}
        whole = kept.from_pylist([fresh], kept.schema)
        path = Path(store.uri, snapshot_folder(name), file.path)
        with pq.ParquetWriter(path, kept.schema.with_metadata(metadata)) as writer:
            writer.write_table(whole)
            writer.write_table(kept)
        rows = len(kept) + 1
        files.append(dataclasses.replace(file, rows=rows, bytes=path.stat().st_size))
    return commit_like(store, before, name, tuple(files))


def commit_like(store: Store, before: SnapshotManifest, name: str, files: tuple[object, ...]) -> str:
    rows = sum(file.rows for file in files)  # type: ignore[attr-defined]
    counts = dataclasses.replace(before.counts, catalog_rows=rows, embedded=rows, reused=0)
    commit(store, dataclasses.replace(before, snapshot=name, counts=counts, files=files))  # type: ignore[arg-type]
    return name


@pytest.fixture
def grown(sharded: Indexed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A version of three shards, and a newer snapshot with 2% of its rows gone and a few added."""
    shutil.copytree(sharded.store.uri, tmp_path / "store")
    use_trees(monkeypatch, ROWS // 3)
    store = Store(str(tmp_path / "store"))
    change_rows(store, day=30)
    return store


def update(store: Store, said: list[str] | None = None, **asked: object) -> IndexManifest:
    start = current_version(store)
    request = dataclasses.replace(REQUEST, snapshot=list_snapshots(store)[-1], start_from=start, **asked)  # type: ignore[arg-type]
    return build_version(store, request, (said if said is not None else []).append, run_shards=here)


def tree_of(manifest: IndexManifest) -> TreeConfig:
    assert isinstance(manifest.config, TreeConfig)
    return manifest.config


def test_with_few_changes_settings_are_kept_and_nothing_is_tuned(grown: Store) -> None:
    before = current_version(grown)
    assert before is not None
    old = read_index_manifest(grown, before)
    said: list[str] = []
    manifest = update(grown, said)
    assert manifest.config.built == f"with the settings of {before}"
    assert manifest.meets_target
    assert not [line for line in said if line.startswith(("trying", "choosing"))]
    assert "tune_s" not in manifest.timing
    assert "projection_s" not in manifest.timing
    assert [tree_of(manifest).dimensions, tree_of(manifest).leaves] == [tree_of(old).dimensions, tree_of(old).leaves]
    assert current_version(grown) == before  # not published
    projections = [
        np.load(io.BytesIO(grown.read(f"{version_folder(name)}/{PROJECTION_FILE}")))
        for name in (before, manifest.version)
    ]
    np.testing.assert_array_equal(*projections)
    verify_files(grown, manifest)


def test_its_recall_is_what_a_search_of_its_snapshot_finds(grown: Store) -> None:
    manifest = update(grown)
    searcher = Searcher.open(grown.uri, manifest.version, verify=True)
    rows, vectors = [], []
    for path in sorted(Path(grown.uri, snapshot_folder(manifest.snapshot)).glob("part-*.parquet")):
        table = pq.read_table(path, columns=["image_id", "embedding"])
        rows += table["image_id"].to_pylist()
        vectors.append(np.array(table["embedding"].combine_chunks().flatten()).reshape(len(table), -1))
    whole = np.concatenate(vectors)
    assert len(rows) == manifest.vectors == len(searcher.rows)
    asked = np.random.default_rng(9).choice(len(rows), 500, replace=False)
    scores = whole[asked] @ whole.T
    scores[np.arange(500), asked] = -np.inf
    kth = np.sort(scores, axis=1)[:, -10]
    found = searcher.search(whole[asked], 11).rows
    right = [sum(scores[i, row] >= kth[i] - 1e-6 for row in found[i] if row != asked[i]) for i in range(500)]
    assert np.minimum(right, 10).mean() / 10 == pytest.approx(manifest.recall.measured, abs=0.015)
    assert {searcher.rows.hit(int(row), 1.0).image_id for row in range(0, len(rows), 500)} == set(rows[::500])


def test_its_report_and_curve_are_of_settings_measured_on_it(grown: Store) -> None:
    manifest = update(grown)
    curve, trials = manifest.recall.curve or (), manifest.recall.trials or ()
    names = ("dimensions", "leaves_to_search", "first_candidates", "candidates")
    assert [trial for trial in trials if all(getattr(trial, name) == getattr(manifest.config, name) for name in names)]
    assert 0 < len(curve) <= len(trials) <= 6
    before = current_version(grown)
    assert before is not None
    old = read_index_manifest(grown, before).recall.trials or ()
    assert not set(map(repr, old)) & set(map(repr, trials))  # other latencies: they were measured again
    page = grown.read(f"{version_folder(manifest.version)}/report.html").decode()
    assert f"with the settings of {before}" in page


def test_one_update_starts_from_another(grown: Store) -> None:
    first = update(grown)
    change_rows(grown, day=31 - 2, seed=5)
    request = dataclasses.replace(REQUEST, start_from=first.version, snapshot=list_snapshots(grown)[-1])
    second = build_index(grown, request, run_shards=here)
    assert second.config.built == f"with the settings of {first.version}"
    assert current_version(grown) == second.version


def test_settings_that_miss_the_target_on_other_data_are_chosen_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A projection fitted to pictures that all lie in few directions, then pictures of every kind."""
    use_trees(monkeypatch, 10_000, queries=200)
    store = Store(str(tmp_path / "store"))
    write_snapshot(store, 4_000, seed=1, dimensions=DIMENSION)
    harder = list_snapshots(store)[0]
    flatten(store, harder, day=1)
    easy = list_snapshots(store)[0]
    assert easy != harder
    before = build_index(store, dataclasses.replace(REQUEST, snapshot=easy))
    said: list[str] = []
    request = dataclasses.replace(REQUEST, snapshot=harder, start_from=before.version)
    manifest = build_version(store, request, said.append)
    assert manifest.config.built == "anew"
    assert "under the target 0.95" in str(tree_of(manifest).anew_because)
    assert any(line == f"choosing everything anew: {tree_of(manifest).anew_because}" for line in said)
    assert manifest.meets_target
    assert manifest.timing["given_up_s"] > 0
    assert manifest.timing["tune_s"] > 0
    Searcher.open(store.uri, manifest.version, verify=True)
    verify_files(store, manifest)


def flatten(store: Store, snapshot: str, day: int) -> str:
    """Writes a snapshot of the same rows whose vectors lie in 12 of all directions."""
    before = read_manifest(store, snapshot)
    name, files = new_name(day_at(day)), []
    Path(store.uri, snapshot_folder(name)).mkdir(parents=True)
    for file in before.files:
        table = pq.read_table(Path(store.uri, snapshot_folder(snapshot), file.path))
        column = table.schema.get_field_index("embedding")
        flat = np.array(table["embedding"].combine_chunks().flatten()).reshape(len(table), -1)
        flat[:, 12:] = 0
        flat[:, 0] += 1e-3
        flat /= np.linalg.norm(flat, axis=1, keepdims=True)
        array = pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), DIMENSION)
        table = table.set_column(column, table.schema.field("embedding"), array)
        path = Path(store.uri, snapshot_folder(name), file.path)
        pq.write_table(table, path)
        files.append(dataclasses.replace(file, bytes=path.stat().st_size))
    return commit_like(store, before, name, tuple(files))


def test_small_catalogs_have_no_settings_to_keep(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    write_snapshot(store, 300, seed=2, dimensions=32)
    before = build_index(store, BuildRequest())
    said: list[str] = []
    again = build_index(store, BuildRequest(start_from=before.version), said.append)
    assert f"few enough rows for exact search: nothing is taken over from version {before.version}" in said
    assert (before.config.built, again.config.built) == ("anew", "anew")
    assert again.recall.measured == 1


def test_a_version_that_does_not_exist_is_the_callers_mistake(grown: Store) -> None:
    missing = "20200101T000000Z-abcdef"
    with pytest.raises(UserError, match=f"no version {missing}"):
        build_version(grown, dataclasses.replace(REQUEST, start_from=missing), run_shards=here)


def test_a_damaged_projection_is_not_used(grown: Store) -> None:
    before = read_index_manifest(grown, str(current_version(grown)))
    path = Path(grown.uri, version_folder(before.version), PROJECTION_FILE)
    given = (before.version, plan_of(before), before.encoder, 10, 0.95)
    assert read_previous(grown, *given).dimensions == before.config.dimensions
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")
    with pytest.raises(StartAnew, match="it was changed or damaged"):
        read_previous(grown, *given)
    path.unlink()
    with pytest.raises(StartAnew, match="found none"):
        read_previous(grown, *given)


def test_build_version_leaves_it_to_build_index_to_refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path))
    write_snapshot(store, 2_000, seed=1, dimensions=DIMENSION)
    use_trees(monkeypatch, 10_000, queries=100)
    request = BuildRequest(target_recall=0.9999, dimensions=4)
    manifest = build_version(store, request)
    assert not manifest.meets_target
    assert (current_version(store), list_versions(store)) == (None, [manifest.version])
    with pytest.raises(GateRefused, match="is kept and not published"):
        build_index(store, request)


def plan_of(manifest: IndexManifest, rows: int = ROWS, dimensions: int | None = None) -> Plan:
    return plan_index(rows, DIMENSION, 8 << 30, manifest.recall.target, dimensions=dimensions)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"encoder": {"fingerprint": "f" * 64}}, "is of encoder .*, this one is of encoder ffffffffffff"),
        ({"k": 20}, "is of k 10, this one is of k 20"),
        ({"target": 0.9}, "is of target 0.95, this one is of target 0.9"),
        ({"rows": 4 * ROWS}, "its 3 shards have become 12"),
        ({"dimensions": 7}, r"projected dimensions are not among \(7,\)"),
    ],
)
def test_what_was_chosen_for_something_else_is_not_taken_over(
    sharded: Indexed, monkeypatch: pytest.MonkeyPatch, change: dict[str, object], why: str
) -> None:
    use_trees(monkeypatch, ROWS // 3)
    asked = {name: change[name] for name in ("rows", "dimensions") if name in change}
    plan = plan_of(sharded.manifest, **asked)  # type: ignore[arg-type]
    given = {"encoder": sharded.manifest.encoder, "k": 10, "target": 0.95}
    check_comparable(sharded.manifest, plan_of(sharded.manifest), **given)  # type: ignore[arg-type]
    given |= {name: value for name, value in change.items() if name in given}
    with pytest.raises(StartAnew, match=why):
        check_comparable(sharded.manifest, plan, **given)  # type: ignore[arg-type]


def test_another_kind_a_missed_target_and_far_off_leaves(sharded: Indexed, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = sharded.manifest
    given = (manifest.encoder, 10, 0.95)
    with pytest.raises(StartAnew, match="is of kind scann, this one is of kind exact"):
        check_comparable(manifest, plan_of(manifest, 300), *given)
    use_trees(monkeypatch, ROWS // 3)
    plan = plan_of(manifest)
    missed = dataclasses.replace(manifest, recall=dataclasses.replace(manifest.recall, measured=0.94))
    with pytest.raises(StartAnew, match="did not reach its own target"):
        check_comparable(missed, plan, *given)
    leaves = tree_of(manifest).leaves
    check_comparable(manifest, dataclasses.replace(plan, leaves=int(leaves * 1.4)), *given)
    with pytest.raises(StartAnew, match=f"its shards have {leaves} leaves, and {leaves * 2} suit"):
        check_comparable(manifest, dataclasses.replace(plan, leaves=leaves * 2), *given)


def test_the_settings_tried_again_are_those_around_the_chosen(sharded: Indexed) -> None:
    config = tree_of(sharded.manifest)
    trials = near_trials(sharded.manifest, config)
    assert 1 <= len(trials) <= 6
    chosen = [i for i, trial in enumerate(trials) if trial.settings == Settings.of(config)]
    assert len(chosen) == 1
    assert chosen[0] <= 2
    assert [trial.latency_ms for trial in trials] == sorted(trial.latency_ms for trial in trials)
    assert {trial.dimensions for trial in trials} == {config.dimensions}
