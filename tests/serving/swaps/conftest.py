"""A store with two versions, and a server on it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.options import ServeOptions
from tests.support.serving import Client, Running, ServedStore, make_served_store, running


@pytest.fixture(scope="package")
def two_versions(tmp_path_factory: pytest.TempPathFactory) -> ServedStore:
    return make_served_store(tmp_path_factory.mktemp("two"), ("one", "two"))


@pytest.fixture
def store(two_versions: ServedStore, tmp_path: Path) -> ServedStore:
    """A copy to publish in and to damage; its last version is published."""
    shutil.copytree(two_versions.uri, tmp_path / "store")
    return ServedStore(str(tmp_path / "store"), two_versions.editions, two_versions.pictures)


@pytest.fixture
def server(store: ServedStore) -> Iterator[Running]:
    with running(ServeOptions(store.uri, poll_interval_s=3600, threads=2)) as server:
        yield server


@pytest.fixture
def client(server: Running) -> Iterator[Client]:
    with Client(server.port) as client:
        yield client
