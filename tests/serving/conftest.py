"""A store that many tests read, and a server on it with the usual limits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.options import ServeOptions
from tests.support.serving import Client, Running, ServedStore, make_served_store, running


@pytest.fixture(scope="session")
def served_store(tmp_path_factory: pytest.TempPathFactory) -> ServedStore:
    """One published version; not to be written to."""
    return make_served_store(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def server(served_store: ServedStore) -> Iterator[Running]:
    """A server on it, one for the tests of a module. It looks at CURRENT only when told to."""
    with running(ServeOptions(served_store.uri, poll_interval_s=3600, threads=2)) as server:
        yield server


@pytest.fixture
def client(server: Running) -> Iterator[Client]:
    with Client(server.port) as client:
        yield client


@pytest.fixture(scope="session")
def pictures(served_store: ServedStore) -> list[bytes]:
    """The catalog's pictures, in the order of its rows."""
    return [Path(path).read_bytes() for path in served_store.pictures]
