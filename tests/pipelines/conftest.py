"""A store that `serve` is tested on."""

from __future__ import annotations

import pytest

from tests.support.serving import ServedStore, make_served_store


@pytest.fixture(scope="package")
def served_store(tmp_path_factory: pytest.TempPathFactory) -> ServedStore:
    """One published version; not to be written to."""
    return make_served_store(tmp_path_factory.mktemp("served"))
