from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.vectors import SyntheticCatalog
from index_builder.build import compared_version, drift
from index_builder.build.build_index import IndexRequest, build_index
from index_builder.build.compared_version import Neighbours
from index_builder.build.drift import measure_drift
from store.errors import UserError
from store.index import version_folder
from store.location import Store
from store.parts import PartWriter
from store.schema import embedding_schema
from store.snapshot import Counts, SnapshotManifest, commit, snapshot_folder
from tests.index_builder.conftest import Indexed
from tests.support.versions import day_at, name_of

DIMENSION, ROWS, K = 32, 1_200, 10


@dataclasses.dataclass(frozen=True)
class Catalog:
    """Pictures by id: their vectors, and what their bytes are."""

    ids: list[str]
    vectors: np.ndarray
    digests: list[str]

    def only(self, keep: np.ndarray) -> Catalog:
        rows = np.arange(len(self.ids))[keep]
        return Catalog([self.ids[row] for row in rows], self.vectors[rows], [self.digests[row] for row in rows])


def drawn(rows: int = ROWS, seed: int = 1) -> Catalog:
    catalog = SyntheticCatalog.draw(rows, seed, DIMENSION)
    ids = [f"image-{row:05d}" for row in range(rows)]
    return Catalog(ids, catalog.chunk(0)[:rows], [f"digest of {name}" for name in ids])


def add_snapshot(store: Store, day: int, catalog: Catalog, encoder: str = "one", part_rows: int = 500) -> str:
    snapshot = name_of(day)
    files = []
    for number, start in enumerate(range(0, len(catalog.ids), part_rows)):
        schema = embedding_schema(catalog.vectors.shape[1], encoder)
        writer = PartWriter(store, snapshot_folder(snapshot), f"part-{number:05d}.parquet", schema)
        for row in range(start, min(start + part_rows, len(catalog.ids))):
            writer.add(
                {
                    "image_id": catalog.ids[row],
                    "item_id": catalog.ids[row],
                    "image_uri": f"{catalog.ids[row]}.jpg",
                    "source_version": None,
                    "content_sha256": catalog.digests[row],
                    "width": 1,
                    "height": 1,
                    "attributes": [],
                    "embedding_norm": 1.0,
                    "embedding": catalog.vectors[row],
                }
            )
        part = writer.close()
        assert part is not None
        files.append(part)
    counts = Counts(len(catalog.ids), len(catalog.ids), 0, 0)
    described = {"fingerprint": encoder, "embedding_dim": catalog.vectors.shape[1], "backbone": encoder}
    commit(
        store,
        SnapshotManifest(
            snapshot, day_at(day).isoformat(), "made up", None, described, counts, {}, tuple(files), {}, {}
        ),
    )
    return snapshot


def build(store: Store, snapshot: str, target: float = 0.9) -> str:
    return build_index(store, IndexRequest(snapshot=snapshot, target_recall=target, k=K)).version


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


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


def exact_overlap(before: Catalog, after: Catalog) -> float:
    """Mean overlap@k of all pictures in both, by brute force."""

    def neighbours(catalog: Catalog) -> dict[str, set[str]]:
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
    after = Catalog(before.ids, vectors, digests)
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


def test_copies_that_change_places_are_no_drift(store: Store) -> None:
    """Fifteen copies of each picture: which ten of the other fourteen are found is a matter of their order."""
    base = drawn(20)
    copies = np.repeat(np.arange(20), 15)
    names = [f"{base.ids[row]}-{copy:02d}" for copy, row in enumerate(copies)]
    before = Catalog(names, base.vectors[copies], [base.digests[row] for row in copies])
    after = before.only(np.random.default_rng(5).permutation(300))
    found = measure_drift(
        store, *(build(store, add_snapshot(store, day, one)) for day, one in ((1, before), (2, after)))
    )
    assert (found.overlap, found.probes) == (1.0, 200)


def test_pictures_with_more_copies_than_can_be_told_apart_are_left_out(store: Store) -> None:
    base = drawn(60)
    copies = np.concatenate([np.arange(60), np.zeros(80, int)])
    catalog = Catalog([f"copy-{row}" for row in range(140)], base.vectors[copies], ["same"] * 140)
    version = build(store, add_snapshot(store, 1, catalog))
    found = measure_drift(store, version, version, probes=140)
    scores = base.vectors @ base.vectors.T
    nearer_than_the_copies = (scores > scores[:, :1]).sum(axis=1) - 1  # without the picture itself
    assert 0 < (nearer_than_the_copies >= K).sum() < 59
    assert (found.probes, found.overlap) == ((nearer_than_the_copies >= K).sum(), 1.0)
    copied = catalog.only(np.arange(60, 140))
    found = measure_drift(store, *[build(store, add_snapshot(store, 2, copied))] * 2)
    assert (found.probes, found.overlap) == (0, None)
    assert "copies cannot be told apart" in found.note


def test_a_picture_is_left_out_where_either_side_has_more_copies_than_can_be_told_apart(store: Store) -> None:
    """Eighty copies of one picture come, or go: for whoever has them among its neighbours neither can be compared."""
    base = drawn(60)
    copies = np.concatenate([np.arange(60), np.zeros(80, int)])
    many = Catalog([f"copy-{row}" for row in range(140)], base.vectors[copies], [f"digest {row}" for row in copies])
    few = many.only(np.arange(60))
    with_copies, without = build(store, add_snapshot(store, 1, many)), build(store, add_snapshot(store, 2, few))
    scores = base.vectors @ base.vectors.T
    told_apart = ((scores > scores[:, :1]).sum(axis=1) - 1 >= K).sum()
    assert 0 < told_apart < 59
    for versions in ((with_copies, without), (without, with_copies)):
        found = measure_drift(store, *versions, probes=60)
        assert (found.probes, found.overlap) == (told_apart, 1.0)


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


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=6),
    st.permutations(range(8)),
    st.lists(st.integers(0, 3), min_size=1, max_size=6),
    st.integers(1, 5),
)
def test_ties_are_broken_as_suits_the_overlap_best(one: list[int], names: list[int], other: list[int], k: int) -> None:
    """Against trying every way to break them."""
    sides = [list(zip(range(8), sorted(one, reverse=True))), list(zip(names, sorted(other, reverse=True)))]  # noqa: B905

    def answers(side: list[tuple[int, int]]) -> list[set[int]]:
        kept = min(k, len(side))
        subsets = [set(chosen) for chosen in itertools.combinations(range(len(side)), kept)]
        best = sorted((score for _, score in side), reverse=True)[:kept]
        right = [rows for rows in subsets if sorted((side[row][1] for row in rows), reverse=True) == best]
        return [{side[row][0] for row in rows} for rows in right]

    best = max(len(a & b) for a in answers(sides[0]) for b in answers(sides[1]))
    found = [
        Neighbours([str(name) for name, _ in side], np.array([score for _, score in side], np.float32), True)
        for side in sides
    ]
    assert drift._shared(found[0], found[1], k) == pytest.approx(best / min(k, len(one), len(other)))


@pytest.mark.parametrize(("apart", "shared"), [(5e-7, 1.0), (3e-6, 0.5), (5e-5, 0.5)])
def test_only_what_multiplication_alone_sets_apart_ties(apart: float, shared: float) -> None:
    scores = np.array([0.9, 0.8, 0.8 - apart], np.float32)
    one, other = (Neighbours(names, scores, True) for names in (["a", "b", "c"], ["a", "c", "b"]))
    assert drift._shared(one, other, 2) == pytest.approx(shared)
