"""What is done to a store that faults are set against: each act starts from a small store that was made for it."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from encoder.source import publish_weights
from store.errors import StoreError
from store.index import IndexManifest, commit_version, version_folder
from store.location import Store
from store.parts import PartFile
from store.process import utc_now
from store.prune import prune
from store.snapshot import Counts, SnapshotManifest, commit, snapshot_folder
from tests.support.places import LocalPlace, Place, content_of
from tests.support.store_api import publish_now, published, roll_back
from tests.support.versions import CONTENT, add_snapshot, add_version, day_at, name_of, version_manifest, write_files

NOTE = "runs/note.json"
OLD, NEW = b"old" * 500, b"new" * 700
DIGEST = hashlib.sha256(NEW).hexdigest()
WEIGHTS = f"weights/{DIGEST}.weights.h5"


@dataclasses.dataclass(frozen=True, slots=True)
class Act:
    """Something that is done to a store.

    Attributes:
        prepare: Makes the store that it starts from.
        run: Does it; doing it again changes nothing.
        rewrites: The file that it writes anew, which must be there in its old or its new form at any time.
    """

    prepare: Callable[[Store], object]
    run: Callable[[Store], object]
    rewrites: str = ""


def _publish_first(store: Store) -> None:
    publish_now(store, add_version(store, 1))


def _with_a_note(store: Store) -> None:
    _publish_first(store)
    store.replace(NOTE, OLD)


def _with_cut_weights(store: Store) -> None:
    _publish_first(store)
    store.replace(WEIGHTS, NEW[:100])


def _from_a_file(act: Callable[[Path], object]) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(NEW)
        file.flush()
        act(Path(file.name))


def _snapshot_to_commit() -> SnapshotManifest:
    part = PartFile("part-00000.parquet", 3, len(CONTENT))
    counts = Counts(catalog_rows=3, embedded=3, reused=0, rejected=0)
    nothing: dict[str, Any] = {"encoder": {}, "rejected_by_reason": {}, "timing": {}, "versions": {}}
    return SnapshotManifest(
        name_of(2), day_at(2).isoformat(), "catalog.csv", None, counts=counts, files=(part,), **nothing
    )


def _version_to_commit() -> IndexManifest:
    return version_manifest(2, 2, 0.97)


def _with_parts(store: Store) -> None:
    _publish_first(store)
    with store.create(f"{snapshot_folder(name_of(2))}/part-00000.parquet") as stream:
        stream.write(CONTENT)


def _with_files_of_a_version(store: Store) -> None:
    _publish_first(store)
    write_files(store, _version_to_commit())


def _with_two_versions(store: Store) -> None:
    add_version(store, 1)
    publish_now(store, add_version(store, 2))


def _with_a_second_version(store: Store) -> None:
    _publish_first(store)
    add_version(store, 2)


def _with_old_versions(store: Store) -> None:
    for day in (1, 2):
        add_snapshot(store, day)
        add_version(store, day)
    publish_now(store, name_of(2))
    store.replace(f"{version_folder(name_of(3))}/codes.npy", CONTENT)  # a dead build's


def _prune(store: Store) -> None:
    prune(store, 1, utc_now(), datetime.timedelta(hours=-1))  # what a dead build left is never too young


def _publish_second(store: Store) -> None:
    publish_now(store, name_of(2))


ACTS = {
    "replace": Act(_with_a_note, lambda store: store.replace(NOTE, NEW), NOTE),
    "upload": Act(_with_a_note, lambda store: _from_a_file(lambda file: store.upload(file, NOTE)), NOTE),
    "weights": Act(
        _with_cut_weights, lambda store: _from_a_file(lambda file: publish_weights(store, file, DIGEST)), WEIGHTS
    ),
    "commit a snapshot": Act(_with_parts, lambda store: commit(store, _snapshot_to_commit())),
    "commit a version": Act(_with_files_of_a_version, lambda store: commit_version(store, _version_to_commit())),
    "publish the first": Act(lambda store: add_version(store, 2), _publish_second),
    "publish": Act(_with_a_second_version, _publish_second),
    "rollback": Act(_with_two_versions, lambda store: roll_back(store, name_of(1))),
    "prune": Act(_with_old_versions, _prune),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Course:
    """An act, the files it starts from, and what it makes of them where nothing fails.

    Attributes:
        act: Its name.
        start: Every file before it.
        published: What CURRENT may name during it: what it names before and after.
        rewritten: The contents that the rewritten file may have, old and new.
        end: Paths of all files after it, but for those of writes that were broken off.
    """

    act: str
    start: dict[str, bytes]
    published: tuple[str | None, str | None]
    rewritten: tuple[bytes, bytes] | None
    end: frozenset[str]


def course_of(name: str, folder: Path) -> Course:
    """Takes an act's course on a local disk."""
    act, store, place = ACTS[name], Store(str(folder)), LocalPlace(folder)
    act.prepare(store)
    start, before = content_of(place), published(store)
    act.run(store)
    rewritten = (start[act.rewrites], place.get(act.rewrites)) if act.rewrites else None
    assert start != content_of(place), "an act that does nothing"
    return Course(name, start, (before, published(store)), rewritten, settled(place))


def settled(place: Place) -> frozenset[str]:
    """Paths of all files but those that only a local disk has: locks, and what a write that was broken off left."""
    return frozenset(path for path in place.sizes() if not path.endswith((".tmp", ".guard")))


def check_whole(place: Place) -> str | None:
    """Every version and snapshot that exists has all its files, CURRENT names one of them; returns what it names."""
    sizes = place.sizes()
    for path in [path for path in sizes if path.endswith("/manifest.json")]:
        folder = path.removesuffix("manifest.json")
        for file in json.loads(place.get(path))["files"]:
            assert sizes.get(folder + file["path"]) == file["bytes"], f"{folder}{file['path']} of a {path}"
    try:
        current = published(Store(place.uri))
    except StoreError as error:
        raise AssertionError(f"CURRENT cannot be read: {error}") from error
    assert current is None or f"indexes/{current}/manifest.json" in sizes, f"CURRENT names {current}, not there"
    return current


def check_course(course: Course, place: Place, *, done: bool | None) -> None:
    """What must hold after a fault amid an act.

    Args:
        course: The act's.
        place: Where it was done.
        done: Whether it said that it was; None where it could not say anything.
    """
    current = check_whole(place)
    allowed = course.published[1:] if done else course.published
    assert current in allowed, f"CURRENT names {current}, expected {' or '.join(map(str, allowed))}"
    if course.rewritten:
        path = ACTS[course.act].rewrites
        assert path in place.sizes(), f"{path} is gone"
        assert place.get(path) in (course.rewritten[1:] if done else course.rewritten), f"{path} is cut"


def check_finished(course: Course, place: Place) -> None:
    """Does the act once more, and looks whether the store is as if nothing had ever failed."""
    ACTS[course.act].run(Store(place.uri))
    check_course(course, place, done=True)
    assert settled(place) == course.end, sorted(settled(place) ^ course.end)
