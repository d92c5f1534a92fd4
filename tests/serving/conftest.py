"""A store that many tests read, and a server on it with the usual limits."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.logs import LOG
from serving.options import ServeOptions
from serving.watcher import Watcher
from serving.work_queue import WorkQueue
from tests.support.fake_time import FakeTime
from tests.support.gated_work import Gate
from tests.support.publications import ONE, POLL_S, Log, Publications, published
from tests.support.serving import Client, Running, ServedStore, make_served_store, running
from tests.support.thumbnail_cache import SlowCatalog


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


@pytest.fixture
def catalog() -> SlowCatalog:
    return SlowCatalog()


@pytest.fixture
def log() -> Iterator[Log]:
    handler, level = Log(), LOG.level
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    yield handler
    LOG.removeHandler(handler)
    LOG.setLevel(level)


@pytest.fixture
def publications() -> Publications:
    return Publications()


@pytest.fixture
def fake_time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def watcher(publications: Publications, fake_time: FakeTime) -> Watcher:
    """One that looks only when a test says so."""
    return Watcher(published(ONE), publications.read, publications.open, poll_interval_s=POLL_S, clock=fake_time.clock)


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def make_queue() -> Iterator[Callable[..., WorkQueue[Any, Any]]]:
    """Queues that are closed at the end."""
    made: list[WorkQueue[Any, Any]] = []

    def make(work: Callable[..., Any], **options: Any) -> WorkQueue[Any, Any]:
        made.append(WorkQueue("test", work, **{"max_waiting": 100, **options}))
        return made[-1]

    yield make
    for queue in made:
        queue.close()
