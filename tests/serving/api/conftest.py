"""The rows that answers are compared with."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.index import read_index_manifest
from store.location import Store
from store.snapshot import read_manifest
from tests.support.api_answers import Rows
from tests.support.serving import ServedStore
from tests.support.small_embed import rows_of


@pytest.fixture(scope="module")
def rows(served_store: ServedStore) -> Rows:
    """image_id -> row of the snapshot, its attributes as a dictionary."""
    snapshot = read_index_manifest(Store(served_store.uri), served_store.versions[-1]).snapshot
    found = rows_of(Path(served_store.uri), read_manifest(Store(served_store.uri), snapshot))
    return {name: {**row, "attributes": dict(row["attributes"])} for name, row in found.items()}
