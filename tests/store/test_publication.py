from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from store.errors import GateRefused, StoreError
from store.index import commit_version, list_versions, read_index_manifest, version_folder
from store.location import Store
from store.measured import Cost
from store.publication import (
    CURRENT,
    Published,
    current_version,
    last_published,
    publish,
    read_current,
    read_published,
    refuse_after_rollback,
    standing,
)
from store.runs import RunRecord, write_run
from tests.support.killed import killed_at_every_step, run_alone
from tests.support.memory_store import memory_store
from tests.support.versions import add_version, name_of, publish_now, verify_files, version_manifest


@pytest.fixture(params=["local", "objects"])
def store(request, tmp_path, monkeypatch):
    """A local folder, and a file system in memory that is handled as an object store is."""
    return Store(str(tmp_path)) if request.param == "local" else memory_store(monkeypatch)


def run_record(run: str, outcome: str, version: str) -> RunRecord:
    at = f"{run[:4]}-{run[4:6]}-{run[6:8]}T04:00:00+00:00"
    return RunRecord(run, "c.csv", at, at, outcome, "", None, version, None, {}, {}, (), None, {}, Cost(), "host", 1)


@pytest.mark.parametrize(
    ("content", "says"), [(b"", "found ''"), (b"../weights\n", "found '../weights'"), (name_of(5).encode(), "manifest")]
)
def test_current_that_names_no_version_says_how_to_go_on(store, content, says):
    store.replace("indexes/CURRENT", content)
    with pytest.raises(StoreError, match=rf"{says}.*rollback --to") as caught:
        current_version(store)
    assert "\n" not in str(caught.value)
    publish_now(store, add_version(store, 1))
    assert current_version(store) == name_of(1)


def test_a_version_pruned_while_it_is_published_is_not_published(store, monkeypatch):
    publish_now(store, add_version(store, 1))
    plain = Store.replace

    def prune_first(self, path, data):
        if path == CURRENT and not data.startswith(name_of(1).encode()):
            self.remove(f"{version_folder(data[:23].decode())}/manifest.json")
        plain(self, path, data)

    doomed, before = add_version(store, 2), read_published(store)
    assert before is not None
    monkeypatch.setattr(Store, "replace", prune_first)
    with pytest.raises(StoreError, match=f"was pruned while .* CURRENT names {name_of(1)}, as before"):
        publish_now(store, doomed)
    assert current_version(store) == name_of(1)
    put_back = read_published(store)
    assert put_back is not None
    assert put_back.write not in ("", before.write), "or one who started before all this would not see it"
    store.remove(CURRENT)
    doomed = add_version(store, 3)
    with pytest.raises(StoreError, match=r"was pruned while .* rollback"):
        publish_now(store, doomed)
    assert list_versions(store) == [name_of(1)]


def test_who_started_from_another_publication_publishes_nothing(store):
    versions = [add_version(store, day) for day in (1, 2, 3)]
    publish_now(store, versions[0])
    over = read_published(store)
    publish_now(store, versions[2])
    left = store.read(CURRENT)
    with pytest.raises(StoreError, match=rf"{versions[1]} is not published: CURRENT was {versions[0]} .* by index now"):
        publish(store, versions[1], over=over, by="reindex")
    publish_now(store, versions[0])  # the same name as when it began, published anew
    with pytest.raises(StoreError, match="is not published"):
        publish(store, versions[1], over=over, by="reindex")
    store.replace(CURRENT, left)
    with pytest.raises(StoreError, match=r"CURRENT was missing when this began, and is .* now"):
        publish(store, versions[1], over=None, by="index")
    assert store.read(CURRENT) == left


def test_a_lease_that_was_overtaken_publishes_nothing(store):
    old, new = add_version(store, 1), add_version(store, 2)
    publish(store, new, over=None, by="reindex", fence=7)
    over = read_published(store)
    with pytest.raises(StoreError, match=f"{old} is not published: .* lease has number 6, and one with number 7"):
        publish(store, old, over=over, by="reindex", fence=6)
    assert current_version(store) == new
    assert publish(store, old, over=over, by="rollback").fence == 7, (
        "a person needs no lease, and the number never falls"
    )
    assert publish(store, new, over=read_published(store), by="reindex", fence=8).fence == 8


def test_a_rollback_stands_until_a_newer_version_or_a_person_says_otherwise(store):
    for day in (1, 2, 3):
        publish_now(store, add_version(store, day))
    refuse_after_rollback(read_published(store), store)
    publish_now(store, name_of(2), by="rollback")
    publish_now(store, name_of(1), by="rollback")
    with pytest.raises(GateRefused, match=rf"rolled back from {name_of(3)} to {name_of(1)} at 2\d{{3}}-.*--publish"):
        refuse_after_rollback(read_published(store), store)
    publish_now(store, name_of(2), by="rollback")
    with pytest.raises(GateRefused, match=f"rolled back from {name_of(3)} to {name_of(2)}"):
        refuse_after_rollback(read_published(store), store)
    publish_now(store, name_of(3), by="rollback")
    refuse_after_rollback(read_published(store), store)
    publish_now(store, name_of(1), by="rollback")
    publish_now(store, name_of(2))
    refuse_after_rollback(read_published(store), store)


@pytest.mark.parametrize("second", ["", "\n", "\n{", "\n[]\n", '\n{"fence": "x"}', '\n{"fence": 1, "by": ""}'])
def test_current_as_an_older_release_or_a_person_wrote_it_is_a_name_and_nothing_more(store, second):
    version = add_version(store, 1)
    store.replace(CURRENT, f"{version}{second}".encode())
    published = read_published(store)
    assert published is not None
    assert current_version(store) == version
    assert published == Published(version, token=published.token)
    publish(store, version, over=published, by="index")


def test_a_lost_current_is_told_and_what_was_published_last_is_known(store):
    assert current_version(store) is None
    add_version(store, 1, measured=0.5)
    assert current_version(store) is None, "nothing that could be published was ever built"
    for day in (2, 3, 4):
        add_version(store, day)
    assert last_published(store) == name_of(4), "nothing tells, so the newest"
    publish_now(store, name_of(2))
    store.remove(CURRENT)
    assert last_published(store) == name_of(2)
    with pytest.raises(StoreError, match=rf"CURRENT is missing, though .* rollback --store .* publishes {name_of(2)}"):
        current_version(store)
    path = f"{version_folder(name_of(2))}/manifest.json"
    store.replace(path, store.read(path)[:50])
    assert last_published(store) == name_of(4), "what is damaged is not proposed"


def test_a_rollback_stands_though_current_is_lost(store):
    for day in (1, 2):
        publish_now(store, add_version(store, day))
    publish_now(store, name_of(1), by="rollback")
    store.remove(CURRENT)
    assert last_published(store) == name_of(1)
    with pytest.raises(GateRefused, match=f"rolled back from {name_of(2)} to {name_of(1)}"):
        refuse_after_rollback(standing(store, read_published(store)), store)


def test_the_runs_tell_what_was_published_last(store):
    for day in (1, 2, 3):
        add_version(store, day)
    for day, outcome in ((1, "published"), (2, "published"), (3, "refused")):
        write_run(store, run_record(name_of(day), outcome, name_of(day)))
    assert last_published(store) == name_of(2)


def test_of_two_publishers_one_wins_and_readers_never_see_neither(tmp_path):
    store = Store(str(tmp_path))
    versions = [add_version(store, 1), add_version(store, 2)]
    publish_now(store, versions[0])
    start, seen = threading.Barrier(3), set()

    def publish_often(version: str) -> int:
        start.wait()
        return sum(won(version) for _ in range(100))

    def won(version: str) -> bool:
        try:
            publish_now(store, version)
        except StoreError:  # the other was faster, and this one was told
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        publishers = [pool.submit(publish_often, version) for version in versions]
        start.wait()
        while not all(publisher.done() for publisher in publishers):
            seen.add(current_version(store))
    assert sum(publisher.result() for publisher in publishers) >= 100
    assert seen <= set(versions)
    assert current_version(store) in versions
    assert sorted(store.list("indexes")) == [*versions, "CURRENT"]


def kill_builds(folder: Path) -> int:
    """Builds, commits and publishes, killed at every step; CURRENT must name a whole version after each."""
    store = Store(str(folder))
    publish_now(store, add_version(store, 1))
    (folder / "built").write_bytes(b"vectors")

    def build() -> None:
        manifest = version_manifest(2, 2, 1.0, b"vectors")
        store.upload(folder / "built", f"{version_folder(manifest.version)}/{manifest.files[0].path}")
        commit_version(store, manifest)
        publish_now(store, manifest.version)

    def check(step: int) -> None:
        current = current_version(store)
        assert current in (name_of(1), name_of(2)), step
        for version in list_versions(store):
            verify_files(store, read_index_manifest(store, version))
        store.remove_folder(version_folder(name_of(2)))  # the next one starts where this one did
        publish_now(store, name_of(1))

    steps = killed_at_every_step(folder, build, check)
    assert read_current(store) == name_of(2)
    return steps


def test_killed_at_any_step_current_names_a_whole_version_and_the_next_build_succeeds(tmp_path):
    assert run_alone("tests.store.test_publication", "kill_builds", tmp_path) >= 7
