from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from index_builder.build import compared_version
from index_builder.build.drift import measure_drift
from store.errors import UserError
from store.index import version_folder
from store.location import Store
from store.snapshot import snapshot_folder
from tests.index_builder.conftest import Indexed
from tests.support.moved_catalogs import DIMENSION, ROWS, K, MovedCatalog, add_snapshot, build, drawn
from tests.support.versions import name_of


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, str, str]:
    """1,200 pictures, and the same in another order without a quarter of them."""
    store = Store(str(tmp_path_factory.mktemp("drift") / "store"))
    before = drawn()
    order = np.random.default_rng(3).permutation(ROWS)[: ROWS * 3 // 4]
    return (
        store,
        build(store, add_snapshot(store, 1, before)),
        build(store, add_snapshot(store, 2, before.only(order))),
    )


def exact_overlap(before: MovedCatalog, after: MovedCatalog) -> float:
    """Mean overlap@k of all pictures in both, by brute force."""

    def neighbours(catalog: MovedCatalog) -> dict[str, set[str]]:
        scores = catalog.vectors @ catalog.vectors.T
        np.fill_diagonal(scores, -2)
        best = np.argsort(-scores, axis=1)[:, :K]
        return {name: {catalog.ids[row] for row in near} for name, near in zip(catalog.ids, best, strict=True)}

    one, other = neighbours(before), neighbours(after)
    return float(np.mean([len(one[name] & other[name]) / K for name in one.keys() & other.keys()]))


def test_a_version_has_not_moved_from_itself(pair: tuple[Store, str, str]) -> None:
    store, version, _ = pair
    found = measure_drift(store, version, version)
    assert (found.overlap, found.probes, found.gone, found.added, found.shrink) == (1.0, 200, 0, 0, 0.0)
    assert (found.vectors_before, found.vectors_after, found.k, found.note) == (ROWS, ROWS, K, "")


def test_rows_that_left_take_their_share_of_the_neighbours(pair: tuple[Store, str, str]) -> None:
    store, before, after = pair
    catalog = drawn()
    expected = exact_overlap(catalog, catalog.only(np.random.default_rng(3).permutation(ROWS)[: ROWS * 3 // 4]))
    assert 0.7 < expected < 0.8
    found = measure_drift(store, before, after, probes=ROWS)
    assert found.probes == ROWS * 3 // 4  # all that are in both, whatever their place
    assert found.overlap == pytest.approx(expected, abs=0.002)
    assert measure_drift(store, before, after).overlap == pytest.approx(expected, abs=0.03)
    assert (found.gone, found.added, found.shrink) == (ROWS // 4, 0, 0.25)


def test_rows_that_came_are_counted_and_a_catalog_that_grew_did_not_shrink(pair: tuple[Store, str, str]) -> None:
    store, smaller, larger = pair[0], pair[2], pair[1]
    found = measure_drift(store, smaller, larger)
    assert (found.gone, found.added, found.shrink) == (0, ROWS // 4, 0.0)
    assert (found.vectors_before, found.vectors_after) == (ROWS * 3 // 4, ROWS)


def test_the_draw_depends_on_the_seed_alone(pair: tuple[Store, str, str]) -> None:
    store, before, after = pair
    one, again, other = (measure_drift(store, before, after, probes=50, seed=seed) for seed in (7, 7, 8))
    assert one == again
    assert one.overlap != other.overlap


def test_ids_are_compared_in_blocks_as_they_are_at_once(pair: tuple[Store, str, str], monkeypatch) -> None:
    store, before, after = pair
    at_once = measure_drift(store, before, after)
    monkeypatch.setattr(compared_version, "_BLOCK_IDS", 97)
    assert measure_drift(store, before, after) == at_once


def test_another_encoder_of_another_dimension_has_other_neighbours(store: Store) -> None:
    before = drawn(600)
    vectors = np.random.default_rng(4).standard_normal((600, DIMENSION // 2), dtype=np.float32)
    other = dataclasses.replace(before, vectors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    versions = build(store, add_snapshot(store, 1, before)), build(store, add_snapshot(store, 2, other, "two"))
    found = measure_drift(store, *versions)
    assert found.probes == 200
    assert found.overlap is not None
    assert found.overlap < 0.06  # 10 of 599 by chance: 0.017
    assert (found.gone, found.added) == (0, 0)


def test_only_pictures_of_the_same_content_are_probes(store: Store) -> None:
    """All but thirty were taken anew: many must be drawn to find them."""
    before = drawn(900)
    digests = [digest if row % 30 == 0 else f"new {digest}" for row, digest in enumerate(before.digests)]
    vectors = before.vectors.copy()
    anew = np.arange(900) % 30 != 0
    vectors[anew] = drawn(900, seed=9).vectors[anew]
    after = MovedCatalog(before.ids, vectors, digests)
    versions = build(store, add_snapshot(store, 1, before)), build(store, add_snapshot(store, 2, after))
    found = measure_drift(store, *versions, probes=20)
    assert found.probes == 20
    assert found.overlap is not None
    assert found.overlap < 0.5
    every = measure_drift(store, *versions, probes=400)
    assert every.probes == 30


def test_no_picture_unchanged_or_in_both_leaves_no_overlap_and_says_why(store: Store) -> None:
    before = drawn(40)
    retaken = dataclasses.replace(before, digests=[f"new {digest}" for digest in before.digests])
    renamed = dataclasses.replace(before, ids=[f"new-{name}" for name in before.ids])
    one, two, three = (
        build(store, add_snapshot(store, day, catalog)) for day, catalog in enumerate((before, retaken, renamed), 1)
    )
    found = measure_drift(store, one, two)
    assert (found.overlap, found.probes, found.note) == (None, 0, "no picture drawn is unchanged")
    found = measure_drift(store, one, three)
    assert (found.overlap, found.probes, found.gone, found.added) == (None, 0, 40, 40)
    assert found.note == "no picture is in both versions"


@pytest.mark.parametrize(("rows", "overlap"), [(1, None), (2, 1.0), (K, 1.0), (K + 1, 1.0)])
def test_a_version_of_few_pictures(store: Store, rows: int, overlap: float | None) -> None:
    version = build(store, add_snapshot(store, 1, drawn(ROWS).only(np.arange(rows))))
    found = measure_drift(store, version, version)
    assert found.overlap == overlap
    assert found.probes == (rows if overlap else 0)
    assert found.note == ("" if overlap else "a version of one picture has no neighbours")


def test_a_smaller_answer_is_compared_by_its_own_size(store: Store) -> None:
    catalog = drawn(30)
    few = build(store, add_snapshot(store, 1, catalog.only(np.arange(4))))
    many = build(store, add_snapshot(store, 2, catalog))
    scores = catalog.vectors @ catalog.vectors.T
    np.fill_diagonal(scores, -2)
    near = np.argsort(-scores[:4], axis=1)[:, :K]
    expected = np.mean([np.isin(np.delete(np.arange(4), own), near[own]).mean() for own in range(4)])
    assert measure_drift(store, few, many).overlap == pytest.approx(expected)


@pytest.mark.parametrize("lost", ["pruned", "damaged"])
def test_without_the_older_snapshot_the_index_tells_what_is_unchanged(store: Store, lost: str) -> None:
    catalog = drawn(60)
    before = build(store, add_snapshot(store, 1, catalog))
    moved = dataclasses.replace(
        catalog,
        vectors=np.concatenate([drawn(60, seed=9).vectors[:30], catalog.vectors[30:]]),
        digests=[*(f"{digest}-moved" for digest in catalog.digests[:30]), *catalog.digests[30:]],
    )
    after = build(store, add_snapshot(store, 2, moved.only(np.arange(50))))
    whole = measure_drift(store, before, after)
    if lost == "pruned":
        store.remove_folder(snapshot_folder(name_of(1)))
    else:
        (part,) = Path(store.uri, snapshot_folder(name_of(1))).glob("part-*")
        part.write_bytes(part.read_bytes()[:100])
    found = measure_drift(store, before, after)
    assert (found.probes, found.gone, found.added) == (20, 10, 0)
    assert whole.overlap is not None
    assert 0 < whole.overlap < 1
    assert found.overlap == pytest.approx(whole.overlap)
    assert f"the snapshot of {before} was pruned: " in found.note if lost == "pruned" else "is damaged: " in found.note
    assert "compared by what the index has" in found.note


def test_without_the_older_snapshot_another_encoder_tells_nothing(store: Store) -> None:
    catalog = drawn(60)
    before = build(store, add_snapshot(store, 1, catalog))
    after = build(store, add_snapshot(store, 2, catalog))
    store.remove_folder(snapshot_folder(name_of(1)))
    path = f"{version_folder(before)}/manifest.json"
    manifest = json.loads(store.read(path))
    manifest["encoder"]["fingerprint"] = "0" * 64
    store.replace(path, json.dumps(manifest).encode())
    found = measure_drift(store, before, after)
    assert (found.overlap, found.probes, found.trivial) == (None, 0, False)
    assert "the encoder is another" in found.note


def test_a_snapshot_that_is_not_the_versions_tells_nothing(store: Store) -> None:
    catalog = drawn(60)
    version = build(store, add_snapshot(store, 1, catalog))
    shutil.rmtree(Path(store.uri, snapshot_folder(name_of(1))))
    add_snapshot(store, 1, catalog.only(np.arange(60)[::-1]))
    found = measure_drift(store, version, version)
    assert (found.overlap, found.trivial) == (None, False)
    assert "is damaged: " in found.note
    assert "in their order" in found.note


def test_a_version_that_does_not_exist(store: Store) -> None:
    with pytest.raises(UserError, match=f"no version {name_of(9)}"):
        measure_drift(store, name_of(9), name_of(9))


def test_a_tree_of_several_shards_against_exact_search(sharded: Indexed, store: Store) -> None:
    """The same rows: what the tree misses is all that differs."""
    shutil.copytree(sharded.store.uri, store.uri)
    exact = build(store, sharded.manifest.snapshot)
    found = measure_drift(store, sharded.manifest.version, exact)
    assert len(sharded.manifest.shards) == 3
    assert (found.gone, found.added, found.probes) == (0, 0, 200)
    assert found.overlap is not None
    assert sharded.manifest.recall.measured - 0.02 < found.overlap <= 1
