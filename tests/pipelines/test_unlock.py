from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from pipelines.cli.main import main
from pipelines.log import LOG
from store.lease import Lease, lease_path
from store.location import Store


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Leaves the loggers as they were."""
    root = logging.getLogger()
    before = list(LOG.handlers), LOG.level, LOG.propagate, root.level
    yield
    LOG.handlers[:], LOG.level, LOG.propagate, root.level = before


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "store"))


def test_unlock(store, capsys):
    unlock = ["unlock", "--store", store.uri]
    assert main(unlock) == 0
    assert "nothing to unlock" in capsys.readouterr().out
    with Lease.acquire(store):
        assert main(unlock) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.count("\n") == 1
        assert "--force" in told.err
        assert main([*unlock, "--force", "--format", "json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert document["broken"]
        assert document["holder"]["released"] is False
    assert main(unlock) == 0
    assert "nobody holds the lease" in capsys.readouterr().out
    assert store.size_bytes(lease_path("reindex"))


def test_a_damaged_file_needs_force(store, capsys):
    store.replace(lease_path("reindex"), b"\x1b[2Jgarbage")
    assert main(["unlock", "--store", store.uri]) == 2
    assert "expected a lease" in capsys.readouterr().err
    assert main(["unlock", "--store", store.uri, "--force"]) == 0
    assert "taken away" in capsys.readouterr().out
