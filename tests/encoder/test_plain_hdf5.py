"""Weights that name other files than themselves, in every way that HDF5 knows, and every way that they come here."""

from __future__ import annotations

import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from encoder.plain_hdf5 import _describe_link, check_plain_hdf5
from encoder.source import fetch_weights, weights_path
from encoder.weight_files import fill_from_file
from store.errors import StoreError, UserError
from store.location import Store

SECRET = b"of somebody else" * 4


def link_softly(file: Any, folder: Path) -> None:
    file["layers/dense/vars/1"] = h5py.SoftLink("/layers/dense/vars/0")


def link_nowhere(file: Any, folder: Path) -> None:
    file["gone"] = h5py.SoftLink("/nothing")


def link_to_a_file(file: Any, folder: Path) -> None:
    file["layers/dense/vars/1"] = h5py.ExternalLink(str(folder / "other.h5"), "/")


def link_a_whole_group(file: Any, folder: Path) -> None:
    del file["layers"]
    file["layers"] = h5py.ExternalLink(str(folder / "other.h5"), "/layers")


def store_outside(file: Any, folder: Path) -> None:
    external = [(str(folder / "secret"), 0, len(SECRET))]
    file.create_dataset("layers/dense/vars/1", shape=(len(SECRET),), dtype="u1", external=external)


def store_outside_behind_a_cycle(file: Any, folder: Path) -> None:
    file["layers/dense/again"] = file["layers"]
    store_outside(file, folder)


def put_together(file: Any, folder: Path) -> None:
    layout = h5py.VirtualLayout(shape=(3,), dtype="f4")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "x", shape=(3,))
    file.create_virtual_dataset("layers/dense/vars/1", layout)


TRAPS = [
    link_softly, link_nowhere, link_to_a_file, link_a_whole_group, store_outside, store_outside_behind_a_cycle,
    put_together,
]  # fmt: skip


def write(path: Path, trap: Callable[[Any, Path], None] | None = None) -> Path:
    path.with_name("secret").write_bytes(SECRET)
    with h5py.File(path.with_name("other.h5"), "w") as other:
        other["x"] = np.ones(3, np.float32)
    with h5py.File(path, "w") as file:
        file["layers/dense/vars/0"] = np.ones(3, np.float32)
        file["layers/dense/same"] = file["layers/dense/vars/0"]  # a hard link
        if trap is not None:
            trap(file, path.parent)
    return path


def pack(path: Path, weights: Path, entry: str = "model.weights.h5") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr(entry, weights.read_bytes())
    return path


def test_a_file_of_its_own_numbers_passes_cycles_and_all(tmp_path):
    check_plain_hdf5(write(tmp_path / "w.h5"))
    check_plain_hdf5(write(tmp_path / "w.h5", lambda file, _: file.__setitem__("layers/dense/up", file["layers"])))


@pytest.mark.parametrize("trap", TRAPS)
def test_a_file_that_names_others_is_refused_however_it_comes(tmp_path, trap):
    path = write(tmp_path / "w.weights.h5", trap)
    with pytest.raises(StoreError, match="expected HDF5 that holds its own numbers, found"):
        check_plain_hdf5(path)
    model = types.SimpleNamespace(weights=[])  # refused before it is looked at
    for given in (path, pack(tmp_path / "w.keras", path)):
        with pytest.raises(UserError, match=r"--weights \S+: .* expected HDF5 that holds its own numbers"):
            fill_from_file(model, given, "Any")


def test_a_link_of_a_kind_that_a_plugin_follows_is_refused():
    assert _describe_link(b"a", types.SimpleNamespace(type=h5py.h5l.TYPE_HARD)) is None
    assert _describe_link(b"a", types.SimpleNamespace(type=200)) == "a link of an unknown kind at 'a'"


@pytest.mark.parametrize("entry", ["../model.weights.h5", "/model.weights.h5", "a\\..\\..\\x", "a/../../x"])
def test_an_archive_with_an_entry_that_leaves_is_refused(tmp_path, entry):
    path = pack(tmp_path / "w.keras", write(tmp_path / "w.h5"), entry)
    with pytest.raises(UserError, match="stays inside its folder"):
        fill_from_file(types.SimpleNamespace(weights=[]), path, "Any")


@pytest.mark.parametrize("digest", ["", "x", "../" * 20 + "etc/passwd", "A" * 64, "0" * 63, "0" * 65, None, 7])
def test_no_path_is_built_from_what_is_no_digest(tmp_path, digest):
    with pytest.raises(StoreError, match="weights_sha256: expected 64 hex digits"):
        weights_path(digest)
    with pytest.raises(StoreError, match="weights_sha256: expected 64 hex digits"):
        fetch_weights(Store(str(tmp_path)), digest)


def test_weights_that_are_a_link_out_of_the_store_are_refused(tmp_path):
    store, digest = Store(str(tmp_path / "store")), "0" * 64
    (tmp_path / "store" / "weights").mkdir(parents=True)
    write(tmp_path / "w.h5").rename(tmp_path / "elsewhere.h5")
    Path(store.uri, weights_path(digest)).symlink_to(tmp_path / "elsewhere.h5")
    with pytest.raises(StoreError, match="a link that leads out"):
        fetch_weights(store, digest)
