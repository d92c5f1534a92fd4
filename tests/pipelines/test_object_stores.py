"""The whole journey with catalog, pictures and store in a bucket, on a server that works and one that often fails."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from samples.catalog import draw_catalog
from store.process import utc_now
from tests.support import gcs_server as gcs
from tests.support import s3_server as s3
from tests.support.cli import shelfmark
from tests.support.faulty_proxy import FAULTS, FaultyProxy

ITEMS, VIEWS = 20, 2
PICTURES = ITEMS * VIEWS
QUICK = ("--backbone", "mobilenetv3small", "--weights", "random:1", "--image_size", "64", "--precision", "float32")


@dataclasses.dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket with a catalog in it, and how a process reaches it."""

    uri: str
    environment: dict[str, str]

    @property
    def catalog(self) -> str:
        return f"{self.uri}/catalog/catalog.csv"

    @property
    def store(self) -> str:
        return f"{self.uri}/store"

    def shelfmark(self, *arguments: str, code: int = 0) -> Any:
        """Runs a command and returns its JSON document."""
        with pytest.MonkeyPatch.context() as patch:
            for name in [name for name in os.environ if name.startswith(("AWS_", "STORAGE_EMULATOR", "GOOGLE_"))]:
                patch.delenv(name)
            for name, value in self.environment.items():
                patch.setenv(name, value)
            done = shelfmark(*arguments, "--format", "json")
        assert done.returncode == code, done.stderr[-3000:]
        assert "Traceback" not in done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    draw_catalog(folder, items=ITEMS, views=VIEWS, seed=0)
    return folder


@pytest.fixture
def steady(s3_server: s3.ServerProcess, drawn: Path) -> Bucket:
    bucket = s3.new_bucket(s3_server.url)
    s3.upload_folder(s3_server.url, bucket, drawn, "catalog")
    return Bucket(f"s3://{bucket}", s3.s3_environment(s3_server.url))


@pytest.fixture
def proxy(s3_server: s3.ServerProcess) -> Iterator[FaultyProxy]:
    with FaultyProxy(s3_server.port) as proxy:
        yield proxy


@pytest.fixture
def faulty(steady: Bucket, proxy: FaultyProxy) -> Bucket:
    return dataclasses.replace(steady, environment=s3.s3_environment(proxy.url))


@pytest.fixture
def google(gcs_server: s3.ServerProcess, drawn: Path) -> Bucket:
    bucket = gcs.new_bucket(gcs_server.url)
    gcs.upload_folder(gcs_server.url, bucket, drawn, "catalog")
    return Bucket(f"gs://{bucket}", gcs.gcs_environment(gcs_server.url))


def reindex(bucket: Bucket) -> dict[str, Any]:
    """The record of a run."""
    record: dict[str, Any] = bucket.shelfmark("reindex", "--catalog", bucket.catalog, "--store", bucket.store, *QUICK)
    assert record["counts"]["catalog_rows"] == PICTURES
    assert record["counts"]["rejected"] == 0
    return record


def journey(bucket: Bucket) -> None:
    """A version, a run with nothing to do, a second version, back to the first, a third, which alone is left."""
    record = reindex(bucket)
    assert (record["outcome"], record["counts"]["embedded"]) == ("published", PICTURES)
    first = record["version"]
    hits = search(bucket)
    assert len(hits) == 5
    again = reindex(bucket)
    assert (again["outcome"], again["counts"]["fetched"]) == ("nothing_to_do", 0)
    second = index(bucket, 1)
    bucket.shelfmark("rollback", "--store", bucket.store)
    assert states(bucket) == {first: "published", second: "kept"}
    third = index(bucket, 2, "--publish")
    bucket.shelfmark("prune", "--store", bucket.store, "--keep", "1")
    assert states(bucket) == {third: "published"}
    assert search(bucket) == hits
    runs = bucket.shelfmark("runs", "--store", bucket.store)["runs"]
    assert [run["outcome"] for run in runs] == ["published", "nothing_to_do"]


def index(bucket: Bucket, minute: int, *flags: str) -> str:
    """A version made so many minutes from now: names sort by the second, and several are made in one."""
    later = utc_now() + datetime.timedelta(minutes=minute)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("index_builder.build.builder.utc_now", lambda: later)
        return str(bucket.shelfmark("index", "--store", bucket.store, *flags)["version"])


def states(bucket: Bucket) -> dict[str, str]:
    listed = bucket.shelfmark("versions", "--store", bucket.store)["versions"]
    return {state["version"]: state["state"] for state in listed}


def search(bucket: Bucket) -> list[str]:
    """Image ids of what looks like an item of the catalog, the nearest first."""
    found = bucket.shelfmark("search", "--store", bucket.store, "-k", "5", "--item", "t-shirt-000000")
    return [str(hit["image_id"]) for hit in found["queries"][0]["hits"]]


@pytest.mark.slow
@pytest.mark.s3
def test_the_journey_on_a_server_that_fails_one_request_in_twenty(faulty, proxy):
    journey(faulty)
    assert set(proxy.faults) == set(FAULTS)
    assert any(answer.startswith("PUT") for answer in proxy.lost_answers)


@pytest.mark.slow
@pytest.mark.gcs
def test_the_journey_on_gs(google):
    journey(google)
