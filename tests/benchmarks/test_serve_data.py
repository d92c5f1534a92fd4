from __future__ import annotations

import base64
import json
import os
import time

import numpy as np
import pytest

from benchmarks.index_data import Questions
from benchmarks.serve_data import add_twin, other_version, picture_bodies, vector_bodies, write_bodies
from benchmarks.serve_server import cpu_s
from benchmarks.serve_stress import swap_once
from store.index import read_index_manifest
from store.location import Store
from store.publication import current_version
from tests.support.versions import add_version, publish_now, verify_files


@pytest.fixture
def store(tmp_path):
    """Two versions, the first of them published."""
    found = Store(str(tmp_path / "store"))
    publish_now(found, add_version(found, 1))
    add_twin(found)
    return found


class ObedientServer:
    """Moves to what is published, or stays where it is."""

    def __init__(self, store, stubborn):
        self._store, self._stubborn = store, stubborn
        self._version = current_version(store)

    def reload(self):
        if not self._stubborn:
            self._version = current_version(self._store)
        return self._version

    def version(self):
        return self._version


def test_a_twin_is_whole_and_not_published(store):
    twin = other_version(store)
    assert twin != current_version(store)
    verify_files(store, read_index_manifest(store, twin))
    add_version(store, 3)
    with pytest.raises(RuntimeError, match="expected 2 versions, found 3"):
        other_version(store)


def test_versions_take_turns(store):
    server = ObedientServer(store, stubborn=False)
    first, began_s = current_version(store), time.time()
    windows = []
    for _ in range(2):
        windows.append(swap_once(server, store))
        seen = current_version(store)
    assert seen == first
    assert (
        began_s <= windows[0].began_s <= windows[0].ended_s <= windows[1].began_s <= windows[1].ended_s <= time.time()
    )


def test_a_server_that_stays_where_it_is_has_not_swapped(store):
    with pytest.raises(RuntimeError, match=r"reload: expected .* found"):
        swap_once(ObedientServer(store, stubborn=True), store)


def test_bodies_hold_the_queries_that_they_say(tmp_path):
    vectors = np.random.default_rng(0).random((20, 8), np.float32)
    Questions(np.arange(20), vectors, {"all": np.zeros((20, 10), np.int64)}).save(tmp_path)
    (tmp_path / "jpeg-500").mkdir()
    (tmp_path / "jpeg-500" / "000.jpg").write_bytes(b"drawn before")
    write_bodies(tmp_path)
    single = [json.loads(path.read_bytes()) for path in vector_bodies(tmp_path, "numbers", 1).paths]
    np.testing.assert_array_equal(np.array([body["vector"] for body in single[:20]], np.float32), vectors)
    several = [json.loads(path.read_bytes()) for path in vector_bodies(tmp_path, "numbers", 16).paths]
    assert {len(body["vectors"]) for body in several} == {vector_bodies(tmp_path, "numbers", 16).queries} == {16}
    short = [json.loads(path.read_bytes())["vector"] for path in vector_bodies(tmp_path, "base64", 1).paths]
    np.testing.assert_array_equal([np.frombuffer(base64.b64decode(vector), "<f4") for vector in short[:20]], vectors)
    assert [path.name for path in picture_bodies(tmp_path).paths] == ["000.jpg"]


def test_processor_time_is_what_the_system_says():
    assert cpu_s(os.getpid()) == pytest.approx(time.process_time(), abs=0.1)
