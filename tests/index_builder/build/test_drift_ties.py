"""Drift among copies of one picture, whose neighbours tie."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index_builder.build import drift
from index_builder.build.compared_version import Neighbours
from index_builder.build.drift import measure_drift
from store.location import Store
from tests.support.moved_catalogs import K, MovedCatalog, add_snapshot, build, drawn


def test_copies_that_change_places_are_no_drift(store: Store) -> None:
    """Fifteen copies of each picture: which ten of the other fourteen are found is a matter of their order."""
    base = drawn(20)
    copies = np.repeat(np.arange(20), 15)
    names = [f"{base.ids[row]}-{copy:02d}" for copy, row in enumerate(copies)]
    before = MovedCatalog(names, base.vectors[copies], [base.digests[row] for row in copies])
    after = before.only(np.random.default_rng(5).permutation(300))
    found = measure_drift(
        store, *(build(store, add_snapshot(store, day, one)) for day, one in ((1, before), (2, after)))
    )
    assert (found.overlap, found.probes) == (1.0, 200)


def test_pictures_with_more_copies_than_can_be_told_apart_are_left_out(store: Store) -> None:
    base = drawn(60)
    copies = np.concatenate([np.arange(60), np.zeros(80, int)])
    catalog = MovedCatalog([f"copy-{row}" for row in range(140)], base.vectors[copies], ["same"] * 140)
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
    many = MovedCatalog(
        [f"copy-{row}" for row in range(140)], base.vectors[copies], [f"digest {row}" for row in copies]
    )
    few = many.only(np.arange(60))
    with_copies, without = build(store, add_snapshot(store, 1, many)), build(store, add_snapshot(store, 2, few))
    scores = base.vectors @ base.vectors.T
    told_apart = ((scores > scores[:, :1]).sum(axis=1) - 1 >= K).sum()
    assert 0 < told_apart < 59
    for versions in ((with_copies, without), (without, with_copies)):
        found = measure_drift(store, *versions, probes=60)
        assert (found.probes, found.overlap) == (told_apart, 1.0)


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
