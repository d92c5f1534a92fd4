from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterable

import pytest

from store.errors import StoreError
from store.location import Store
from store.parts import PartFile
from store.snapshot import REFUSED, UNCHANGED, SnapshotManifest, list_snapshots, read_manifest, snapshot_folder
from tests.support.past import SPEC, catalog_row, past_snapshot
from tests.support.versions import name_of
from transforms import snapshot
from transforms.run_counts import RunCounts, reject_digest
from transforms.snapshot import SnapshotRequest, Verdict, describe_run, judge

REQUEST = SnapshotRequest(name_of(2), "catalog.csv", "2026-11-02T03:15:00+00:00", max_reject_ratio=0.5)
DONE = RunCounts(embedded=2, reused=3, rejected_by_reason={"not_found": 5}, fingerprints=(SPEC.fingerprint,))
NOW = datetime.datetime(2026, 11, 2, 3, 15, 4, tzinfo=datetime.timezone.utc)


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(str(tmp_path / "store"))


@pytest.mark.parametrize(
    ("ratio", "least_rows", "verdict"),
    [
        (0.5, 0, Verdict.COMMIT),
        (0.49, 0, Verdict.REFUSED),
        (0.5, 5, Verdict.COMMIT),
        (0.5, 6, Verdict.REFUSED),  # ten rows ended, but five of them without a picture
        (0.5, 10, Verdict.REFUSED),
    ],
)
def test_the_gates_count_rejects_and_embeddings(ratio: float, least_rows: int, verdict: Verdict) -> None:
    request = dataclasses.replace(REQUEST, max_reject_ratio=ratio, least_rows=least_rows)
    assert judge(DONE, request, None) is verdict


def test_a_catalog_without_rows_has_rejected_none() -> None:
    assert judge(RunCounts(), dataclasses.replace(REQUEST, max_reject_ratio=0.0), None) is Verdict.COMMIT
    assert judge(RunCounts(), dataclasses.replace(REQUEST, least_rows=1), None) is Verdict.REFUSED


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, Verdict.UNCHANGED),
        ({"embedded": 1}, Verdict.COMMIT),
        ({"work": {"altered": 1}}, Verdict.COMMIT),
        ({"work": {"gone": 1}}, Verdict.COMMIT),
        ({"work": {"fetched": 3}}, Verdict.UNCHANGED),
        ({"rejects_digest": reject_digest("a", "a.jpg", "not_found")}, Verdict.COMMIT),
    ],
)
def test_what_says_what_the_last_snapshot_says_is_not_committed_again(
    store: Store, changes: dict, verdict: Verdict
) -> None:
    previous = past_snapshot(store, [catalog_row("b", "v1")])
    done = RunCounts(reused=1, **changes)
    request = dataclasses.replace(REQUEST, only_if_changed=True)
    assert judge(done, request, previous) is verdict
    assert judge(done, REQUEST, previous) is Verdict.COMMIT
    assert judge(done, request, None) is Verdict.COMMIT
    too_few = dataclasses.replace(request, least_rows=9)
    assert judge(done, too_few, previous) is Verdict.REFUSED


def test_embeddings_of_another_encoder_are_never_described_as_this_ones() -> None:
    """Workers of two releases, or a file changed under a run: their numbers must not meet in one snapshot."""
    for fingerprints in (("f" * 64,), (SPEC.fingerprint, "f" * 64, "e" * 64)):
        done = dataclasses.replace(DONE, fingerprints=fingerprints)
        with pytest.raises(StoreError, match=f"expected embeddings of encoder {SPEC.fingerprint}, found .*{'f' * 64}"):
            describe_run(done, REQUEST, None, 10, SPEC, NOW)
    assert describe_run(dataclasses.replace(DONE, fingerprints=()), REQUEST, None, 10, SPEC, NOW).counts.embedded == 2


def test_a_manifest_says_what_was_done() -> None:
    done = dataclasses.replace(DONE, work={"fetched": 7})
    found = describe_run(done, REQUEST, name_of(1), 10, SPEC, NOW)
    assert found == SnapshotManifest(
        snapshot=name_of(2),
        created_at="2026-11-02T03:15:04+00:00",
        catalog="catalog.csv",
        previous_snapshot=name_of(1),
        encoder=SPEC.to_manifest(),
        counts=found.counts,
        rejected_by_reason={"not_found": 5},
        files=(),
        timing={"started_at": REQUEST.started_at, "seconds": 4.0, "pictures_per_s": 0.5},
        versions=found.versions,
        work={"fetched": 7},
    )
    assert dataclasses.astuple(found.counts) == (10, 2, 3, 5)
    assert {"python", "apache-beam", "numpy"} <= found.versions.keys()
    at_once = dataclasses.replace(REQUEST, started_at=NOW.isoformat())
    assert describe_run(done, at_once, None, 10, SPEC, NOW).timing["pictures_per_s"] == 0.0


def committed(store: Store, done: RunCounts, copies: RunCounts, verdict: Verdict = Verdict.COMMIT) -> list[str]:
    made: Iterable[str] = snapshot._commit(copies, store, REQUEST, name_of(1), done, done.rows, SPEC, verdict)
    return list(made)


def written(store: Store, name: str, rows: int) -> PartFile:
    with store.create(f"{snapshot_folder(REQUEST.snapshot)}/{name}") as stream:
        stream.write(b"x" * 10)
    return PartFile(name, rows, 10)


def test_a_snapshot_lists_what_was_embedded_and_what_was_copied(store: Store) -> None:
    done = RunCounts(embedded=2, reused=3, files=(written(store, "part-b", 2),), fingerprints=(SPEC.fingerprint,))
    copies = RunCounts(copied=3, files=(written(store, "part-a", 3), written(store, "stale-a", 1)))
    assert committed(store, done, copies) == [REQUEST.snapshot]
    manifest = read_manifest(store, REQUEST.snapshot)
    assert [file.path for file in manifest.files] == ["part-a", "part-b", "stale-a"]
    assert (manifest.counts.embedded, manifest.counts.reused) == (2, 3)


@pytest.mark.parametrize("copied", [2, 4, 0])
def test_a_reused_row_that_was_not_copied_commits_nothing(store: Store, copied: int) -> None:
    """Also where the files' rows add up: the one too few may be made up for by one too many elsewhere."""
    done = RunCounts(reused=3, fingerprints=(SPEC.fingerprint,))
    copies = RunCounts(copied=copied, files=(written(store, "part-a", 3),))
    with pytest.raises(StoreError, match=f"expected 3 rows to be copied from {name_of(1)}, found {copied}"):
        committed(store, done, copies)
    assert list_snapshots(store) == []


@pytest.mark.parametrize(("verdict", "left"), [(Verdict.REFUSED, REFUSED), (Verdict.UNCHANGED, UNCHANGED)])
def test_what_is_not_committed_leaves_its_counts(store: Store, verdict: Verdict, left: str) -> None:
    done = dataclasses.replace(DONE, files=(PartFile("part-a", 2, 10),))
    assert committed(store, done, RunCounts(), verdict) == []
    assert list_snapshots(store) == []
    found = SnapshotManifest.from_json(store.read(f"{snapshot_folder(REQUEST.snapshot)}/{left}"))
    assert (found.counts.rejected, found.files, found.previous_snapshot) == (5, (), name_of(1))
