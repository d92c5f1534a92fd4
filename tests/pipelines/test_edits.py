"""Random sequences of catalog edits, broken servers and crashes: after every run the store equals a full rebuild."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, seed, settings
from hypothesis import strategies as st

from store.errors import StoreError
from store.location import Store
from store.snapshot import list_snapshots, read_manifest
from tests.support.changing_server import ChangingServer
from tests.support.fresh_seeds import try_fresh_seeds
from tests.support.http_server import jpeg
from tests.support.small_embed import embed_again, rows_of, write_catalog

MAX_STALE_RUNS = 2
PLACES = ("file", "tagged", "plain")
"""Where pictures lie: in files, on a server that gives ETags, on one that gives nothing to tell versions by."""

slots, places, numbers = st.integers(0, 4), st.sampled_from(PLACES), st.integers(0, 7)
edits = st.one_of(
    st.tuples(st.just("add"), slots, places, numbers),
    st.tuples(st.just("add"), slots, places, numbers),
    st.tuples(st.just("remove"), slots),
    st.tuples(st.just("change_picture"), places, slots, numbers),
    st.tuples(st.just("delete_picture"), places, slots),
    st.tuples(st.just("change_attribute"), slots, st.sampled_from(["red", "blue", ""])),
    st.tuples(st.just("change_uri"), slots, places, slots),
    st.tuples(st.just("give_version"), slots, st.booleans()),
    st.tuples(st.just("break_server"), st.booleans()),
)
openings = st.lists(st.tuples(slots, places, numbers), min_size=1, max_size=5)
nights = st.lists(st.tuples(st.lists(edits, min_size=1, max_size=6), st.none() | st.integers(0, 6)), max_size=5)


@dataclasses.dataclass
class World:
    """A catalog and the pictures it names; every method but `write` is an edit."""

    folder: Path
    server: ChangingServer
    rows: dict[int, dict[str, str]] = dataclasses.field(default_factory=dict)
    clock: int = 1

    def write(self) -> Path:
        path = self.folder / "catalog.csv"
        ghost = {"image_id": "ghost", "image_uri": "no-such.jpg", "colour": "", "source_version": ""}
        return write_catalog(path, [*self.rows.values(), ghost])

    def add(self, slot: int, place: str, number: int) -> None:
        self.change_picture(place, slot, number)
        self.rows[slot] = {"image_id": f"id{slot}", "image_uri": self.uri(place, slot), "colour": "red"}

    def remove(self, slot: int) -> None:
        self.rows.pop(slot, None)

    def change_picture(self, place: str, slot: int, number: int) -> None:
        if place == "file":
            self.clock += 1
            path = self.folder / f"{slot}.jpg"
            path.write_bytes(jpeg(number))
            os.utime(path, ns=(0, self.clock * 1_000_000_000))
        else:
            self.server.pictures[f"/{place}/{slot}.jpg"] = jpeg(number)
        self._raise_versions(place, slot)

    def delete_picture(self, place: str, slot: int) -> None:
        (self.folder / f"{slot}.jpg").unlink(missing_ok=True) if place == "file" else None
        self.server.pictures.pop(f"/{place}/{slot}.jpg", None)
        self._raise_versions(place, slot)

    def change_attribute(self, slot: int, colour: str) -> None:
        if slot in self.rows:
            self.rows[slot]["colour"] = colour

    def change_uri(self, slot: int, place: str, target: int) -> None:
        if slot in self.rows:
            self.rows[slot]["image_uri"] = self.uri(place, target)

    def give_version(self, slot: int, given: bool) -> None:
        if slot in self.rows:
            self.clock += 1
            self.rows[slot]["source_version"] = f"v{self.clock}" if given else ""

    def break_server(self, broken: bool) -> None:
        self.server.broken = broken

    def uri(self, place: str, slot: int) -> str:
        return f"{slot}.jpg" if place == "file" else self.server.url(f"/{place}/{slot}.jpg")

    def _raise_versions(self, place: str, slot: int) -> None:
        """A catalog that gives versions gives another when a picture changes: that is what they are."""
        for row in self.rows.values():
            if row["image_uri"] == self.uri(place, slot) and row.get("source_version"):
                self.clock += 1
                row["source_version"] = f"v{self.clock}"


@contextlib.contextmanager
def crash(after: int) -> Iterator[None]:
    """The store fails for good at its n-th file, as it does for a process that dies there."""
    left = after
    with pytest.MonkeyPatch.context() as patch:
        for name in ("create", "replace"):
            plain = getattr(Store, name)

            def failing(self: Store, path: str, *arguments: Any, plain: Any = plain) -> Any:
                nonlocal left
                left -= 1
                if left < 0:
                    raise StoreError("crash")
                return plain(self, path, *arguments)

            patch.setattr(Store, name, failing)
        yield


@dataclasses.dataclass
class Expected:
    """What the store held after the last run.

    Attributes:
        embeddings: image_id -> what it was when its picture was last had.
        stale_runs: image_id -> how often in a row it was not.
    """

    embeddings: dict[str, Any] = dataclasses.field(default_factory=dict)
    stale_runs: dict[str, int] = dataclasses.field(default_factory=dict)

    def check(self, world: World, catalog: Path, store: Path, full_store: Path) -> None:
        newest = read_manifest(Store(str(store)), list_snapshots(Store(str(store)))[-1])
        full = embed_again(catalog, full_store, full=True)
        rows, whole = rows_of(store, newest), rows_of(full_store, full)
        stale, refused = rows_of(store, newest, "stale-"), rows_of(full_store, full, "rejected-")
        for name, row in whole.items():
            assert name not in stale
            assert {**rows[name], "embedding": None} == {**row, "embedding": None}
            np.testing.assert_allclose(rows[name]["embedding"], row["embedding"], atol=1e-6)
        versions = {row["image_id"]: row.get("source_version") for row in world.rows.values()}
        for name in set(rows) - set(whole):
            assert world.server.broken
            assert refused[name]["reason"] == "fetch_error"
            assert rows[name]["embedding"] == self.embeddings[name]
            assert name in stale or rows[name]["source_version"] == versions[name], "the catalog says: unchanged"
        given_up = {name for name in refused if name not in rows}
        assert set(rows_of(store, newest, "rejected-")) == given_up
        for name in given_up & set(self.embeddings):
            passing = world.server.broken and refused[name]["reason"] == "fetch_error"
            assert not passing or self.stale_runs.get(name, 0) == MAX_STALE_RUNS
        for name, mark in stale.items():
            assert mark["stale_runs"] == self.stale_runs.get(name, 0) + 1 <= MAX_STALE_RUNS
        self.embeddings = {name: row["embedding"] for name, row in rows.items()}
        self.stale_runs = {name: mark["stale_runs"] for name, mark in stale.items()}


# A picture changes and its catalog says so while its server is down: mended, it must be fetched.
_CHANGED_WHILE_DOWN = [
    ([("give_version", 0, True)], None),
    ([("break_server", True), ("change_picture", "tagged", 0, 5)], None),
    ([("break_server", False)], None),
]
# A row moves to a picture that has the content of another, and back, with crashes between.
_MOVED_AND_BACK = [
    ([("change_uri", 0, "file", 1), ("remove", 1)], 1),
    ([("change_uri", 0, "tagged", 0), ("delete_picture", "file", 1)], 0),
    ([("break_server", True), ("change_attribute", 0, "blue")], 2),
]


_REMOVED = [([("remove", 1)], None), ([("remove", 0)], 0)]


@pytest.mark.slow
@settings(max_examples=3)  # others every time in CI, see below
@example([(0, "file", 1), (1, "tagged", 1)], _REMOVED)
@example([(0, "tagged", 1)], _CHANGED_WHILE_DOWN)
@example([(0, "tagged", 1), (1, "file", 2)], _MOVED_AND_BACK)
@given(openings, nights)
def test_after_every_run_the_store_equals_a_full_rebuild(first, then):
    live_through(first, then)


def test_also_with_seeds_never_seen(capfd):
    def run(number: int) -> None:
        fresh = settings(max_examples=3, derandomize=False, database=None, deadline=None)
        seed(number)(fresh(given(openings, nights)(live_through)))()

    try_fresh_seeds(run, "tests/pipelines/test_edits.py::test_also_with_seeds_never_seen", capfd)


def live_through(first: list, then: list) -> None:
    """A catalog's first night and the ones after it, each compared with a full rebuild."""
    with tempfile.TemporaryDirectory() as scratch, ChangingServer() as server:
        folder = Path(scratch)
        world, expected, store = World(folder, server), Expected(), folder / "store"
        opening = [("add", *what) for what in first]
        for night, (changes, dies_after) in enumerate([(opening, None), *then]):
            for kind, *what in changes:
                getattr(world, kind)(*what)
            catalog = world.write()
            died = dies_after is None or not _survives(catalog, store, dies_after)
            if died:
                embed_again(catalog, store, only_if_changed=True, max_stale_runs=MAX_STALE_RUNS)
            expected.check(world, catalog, store, folder / f"full-{night}")


def _survives(catalog: Path, store: Path, files: int) -> bool:
    """A run that dies when it has written so many files; True where it needs no more."""
    with crash(files):
        try:
            embed_again(catalog, store, only_if_changed=True, max_stale_runs=MAX_STALE_RUNS)
        except StoreError:
            return False
    return True
