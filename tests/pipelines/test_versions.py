from __future__ import annotations

import datetime
import json

import pytest

from pipelines.cli.main import run_command
from store.building import Building
from store.errors import StoreError, UserError
from store.index import list_versions, version_folder
from store.location import Store
from store.publication import current_version, read_published
from tests.support.versions import CONTENT, add_snapshot, add_version, name_of, publish_now


@pytest.fixture
def store(tmp_path):
    """Days 1, 2 and 4 are at their target, 3 is not, 4 is published."""
    store = Store(str(tmp_path))
    for day in (1, 2, 3, 4):
        add_snapshot(store, day)
        add_version(store, day, measured=0.9 if day == 3 else 0.9712)
    publish_now(store, name_of(4))
    return store


def run(*arguments: str) -> int:
    return run_command(list(arguments))


def test_versions_says_what_each_is(store, capsys):
    store.replace(f"{version_folder(name_of(5))}/codes.npy", CONTENT)
    store.replace(f"{version_folder(name_of(7))}/manifest.json", b'{"format_version": 2}')
    with Building(store, name_of(6), name_of(2)):
        assert run("versions", "--store", store.uri, "--format", "json") == 0
        document = json.loads(capsys.readouterr().out)
        run("versions", "--store", store.uri)
    states = ["kept", "kept", "under target", "published", "leftover", "being written", "unreadable"]
    assert document["current"] == name_of(4)
    assert [(row["version"], row["state"]) for row in document["versions"]] == [
        (name_of(day), state) for day, state in enumerate(states, start=1)
    ]
    assert document["versions"][3] == {
        "version": name_of(4),
        "state": "published",
        "bytes": store.total_bytes(version_folder(name_of(4))),
        "created_at": datetime.datetime(2026, 11, 4, 3, 15, tzinfo=datetime.timezone.utc).isoformat(),
        "snapshot": name_of(4),
        "vectors": 1234,
        "recall": 0.9712,
        "target_recall": 0.95,
    }
    assert document["versions"][5]["snapshot"] == name_of(2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["version", "created", "snapshot", "vectors", "recall", "bytes", "state"]
    assert lines[4].split()[0] == name_of(4)
    assert "0.9712 of 0.95" in lines[4]
    assert [line.endswith(state) for line, state in zip(lines[1:], states, strict=True)] == [True] * len(states)


def test_versions_of_a_store_without_any_says_what_to_do(tmp_path, capsys):
    add_snapshot(Store(str(tmp_path)), 1)
    assert run("versions", "--store", str(tmp_path)) == 0
    assert "build one with shelfmark index" in capsys.readouterr().out


@pytest.mark.parametrize("command", [("versions",), ("prune", "--keep", "2"), ("prune", "--keep", "2", "--dry_run")])
def test_a_store_that_is_not_there_is_the_callers_mistake(tmp_path, command):
    with pytest.raises(UserError, match=r"expected a store, found nothing there; shelfmark embed --store makes one"):
        run(*command, "--store", str(tmp_path / "nowhere"))


def test_versions_says_when_current_cannot_be_opened(store, capsys):
    store.remove(f"{version_folder(name_of(4))}/manifest.json")
    run("versions", "--store", store.uri)
    assert f"CURRENT names {name_of(4)}, which cannot be opened" in capsys.readouterr().out
    store.remove("indexes/CURRENT")
    run("versions", "--store", store.uri)
    assert f"CURRENT is missing, though there are versions; shelfmark rollback --store {store.uri} publishes" in (
        capsys.readouterr().out
    )


def test_rollback_goes_to_the_newest_older_version_at_its_target(store, capsys):
    assert run("rollback", "--store", store.uri) == 0
    assert capsys.readouterr().out == f"{name_of(4)} -> {name_of(2)}\n"
    run("rollback", "--store", store.uri, "--format", "json")
    assert json.loads(capsys.readouterr().out) == {"from": name_of(2), "to": name_of(1)}
    with pytest.raises(UserError, match=f"no version older than {name_of(1)}"):
        run("rollback", "--store", store.uri)
    run("rollback", "--store", store.uri, "--to", name_of(4))
    assert current_version(store) == name_of(4)


@pytest.mark.parametrize(
    ("to", "says"),
    [
        (name_of(3), r"--to .*at least 0\.95, found 0\.9; choose"),
        (name_of(9), "no version .*-000009"),
        ("../embeddings/" + name_of(1), "no version .*: expected a name such as"),
    ],
)
def test_rollback_refuses_what_may_not_be_published(store, to, says):
    with pytest.raises((UserError, StoreError), match=says) as caught:
        run("rollback", "--store", store.uri, "--to", to)
    assert "\n" not in str(caught.value)
    assert current_version(store) == name_of(4)


def test_rollback_mends_a_current_that_names_nothing(store, capsys):
    store.remove(f"{version_folder(name_of(4))}/manifest.json")
    with pytest.raises(StoreError, match="rollback --to"):
        run("prune", "--store", store.uri, "--keep", "1")
    run("rollback", "--store", store.uri)
    published = read_published(store)
    assert published is not None
    assert published.rolled_back_from is None, "that a version is damaged is nobody's judgement on it"
    store.replace("indexes/CURRENT", b"\0")
    run("rollback", "--store", store.uri, "--to", name_of(1))
    store.replace("indexes/CURRENT", b"")
    run("rollback", "--store", store.uri)
    store.remove("indexes/CURRENT")
    run("rollback", "--store", store.uri)
    lines = [f"{name_of(4)} -> {name_of(2)}", *[f"nothing -> {name_of(1)}"] * 3]
    assert capsys.readouterr().out.splitlines() == lines, "where CURRENT is lost, what was published last"


def test_rollback_before_the_first_publication(tmp_path):
    with pytest.raises(UserError, match="name one with --to"):
        run("rollback", "--store", str(tmp_path))


def test_prune_says_what_it_would_delete_and_then_deletes_it(store, capsys):
    dry = ("prune", "--store", store.uri, "--keep", "1", "--format", "json", "--dry_run")
    assert run(*dry) == 0
    planned = json.loads(capsys.readouterr().out)
    assert list_versions(store) == [name_of(day) for day in (1, 2, 3, 4)]
    assert run("prune", "--store", store.uri, "--keep", "1") == 0
    lines = capsys.readouterr().out.splitlines()
    assert planned["versions"] == [name_of(1), name_of(2)]
    assert planned["snapshots"] == [name_of(1), name_of(2)]
    assert lines[:-1] == [f"{parent}/{name_of(day)}" for parent in ("indexes", "embeddings") for day in (1, 2)]
    assert lines[-1] == f"deleted 2 versions, 2 snapshots, 0 leftovers: {planned['bytes']:,} bytes"
    assert list_versions(store) == [name_of(3), name_of(4)]
    run("prune", "--store", store.uri, "--keep", "1", "--dry_run")
    assert capsys.readouterr().out == "would delete 0 versions, 0 snapshots, 0 leftovers: 0 bytes\n"


def test_leftovers_wait_for_as_long_as_asked(store, capsys):
    store.replace(f"{version_folder(name_of(5))}/codes.npy", CONTENT)
    run("prune", "--store", store.uri, "--keep", "9")
    assert "0 leftovers" in capsys.readouterr().out
    run("prune", "--store", store.uri, "--keep", "9", "--leftovers_after_hours", "0")
    assert capsys.readouterr().out.startswith(f"indexes/{name_of(5)}\n")


@pytest.mark.parametrize("wrong", [(), ("--keep", "0"), ("--keep", "1", "--leftovers_after_hours", "-1")])
def test_prune_refuses_flags_without_sense(store, wrong):
    with pytest.raises(UserError, match=r"--keep|--leftovers_after_hours"):
        run("prune", "--store", store.uri, *wrong)
