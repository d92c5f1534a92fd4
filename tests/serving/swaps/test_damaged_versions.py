"""A version that is damaged, or a CURRENT that leads nowhere, is refused; what was served stays."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from encoder.spec import EncoderSpec
from store.index import version_folder
from store.location import Store
from tests.support.serving import Client, Running, ServedStore, query_picture
from tests.support.versions import publish_now

Harm = Callable[[Path, Path], None]


def flip_a_byte(folder: Path, _: Path) -> None:
    path = next(path for path in sorted(folder.rglob("*.arrow")) + sorted(folder.rglob("*")) if path.is_file())
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def remove_a_file(folder: Path, _: Path) -> None:
    unlisted = ("manifest.json", "published.json")
    next(path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in unlisted).unlink()


def remove_the_vectors(folder: Path, _: Path) -> None:
    next(folder.rglob("vectors.npy")).unlink()


def cut_the_vectors(folder: Path, _: Path) -> None:
    path = next(folder.rglob("vectors.npy"))
    path.write_bytes(path.read_bytes()[:-10])


def zero_the_vectors(folder: Path, _: Path) -> None:
    path = next(folder.rglob("vectors.npy"))
    data = path.read_bytes()
    path.write_bytes(data[:128] + bytes(len(data) - 128))


def spoil_the_vectors(folder: Path, _: Path) -> None:
    path = next(folder.rglob("vectors.npy"))
    data = path.read_bytes()
    path.write_bytes(data[:128] + b"\xff" * (len(data) - 128))


def _change_manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "manifest.json"
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))


def another_fingerprint(folder: Path, _: Path) -> None:
    _change_manifest(folder, lambda document: document["encoder"].update(fingerprint="0" * 64))


def another_encoder(folder: Path, _: Path) -> None:
    """One that is right in itself, and whose weights are not in the store."""

    def change(document: dict[str, Any]) -> None:
        spec = EncoderSpec.from_manifest(document["encoder"])
        document["encoder"] = dataclasses.replace(spec, weights_sha256="1" * 64).to_manifest()

    _change_manifest(folder, change)


def another_count(folder: Path, _: Path) -> None:
    _change_manifest(folder, lambda document: document.update(vectors=25))


def no_json(folder: Path, _: Path) -> None:
    (folder / "manifest.json").write_text("{")


def a_list_for_a_manifest(folder: Path, _: Path) -> None:
    (folder / "manifest.json").write_text("[]")


def null_fields(folder: Path, _: Path) -> None:
    _change_manifest(folder, lambda document: document.update(config=None))


def no_manifest(folder: Path, _: Path) -> None:
    (folder / "manifest.json").unlink()


def garbage_in_current(_: Path, current: Path) -> None:
    current.write_bytes(b"\xff\0../../etc")


def empty_current(_: Path, current: Path) -> None:
    current.write_bytes(b"")


def no_current(_: Path, current: Path) -> None:
    current.unlink()


def folder_for_current(_: Path, current: Path) -> None:
    current.unlink()
    current.mkdir()


def a_version_that_is_not_there(_: Path, current: Path) -> None:
    current.write_text("20991231T235959Z-abcdef\n")


HARMS: list[Harm] = [
    flip_a_byte, remove_a_file, remove_the_vectors, cut_the_vectors, zero_the_vectors, spoil_the_vectors,
    another_fingerprint, another_encoder, another_count, no_json, a_list_for_a_manifest, null_fields, no_manifest,
    garbage_in_current, empty_current, no_current, folder_for_current, a_version_that_is_not_there,
]  # fmt: skip


@pytest.mark.parametrize("harm", HARMS)
def test_what_is_damaged_is_refused_and_the_old_version_stays(
    server: Running, store: ServedStore, client: Client, tmp_path: Path, harm: Harm
) -> None:
    damaged, good = store.versions
    folder = Path(store.uri, version_folder(damaged))
    current = Path(store.uri, "indexes", "CURRENT")
    shutil.copytree(folder, tmp_path / "whole")
    current.write_text(f"{damaged}\n")
    harm(folder, current)
    refusals = client.metric('shelfmark_swaps_total{outcome="refused"}')

    answer = client.ask("POST", "/v1/reload")
    assert answer.status == 409, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    ready = client.ask("GET", "/readyz")
    assert ready.status == 200
    assert ready.json["version"] == good
    assert ready.json["refused"]["reason"] in answer.json["detail"]
    assert client.metric("shelfmark_version_refused") == 1
    assert client.metric('shelfmark_swaps_total{outcome="refused"}') == refusals + 1
    assert client.search(query_picture()).json["version"] == good

    for path in (current, folder):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    shutil.copytree(tmp_path / "whole", folder)
    publish_now(Store(store.uri), damaged)
    assert client.ask("POST", "/v1/reload").json == {"version": damaged, "changed": True}
    assert client.ask("GET", "/readyz").json == {"status": "ready", "version": damaged, "refused": None}
    assert client.metric("shelfmark_version_refused") == 0
    assert client.search(query_picture()).json["version"] == damaged


def test_rolling_back_to_what_is_served_ends_a_refusal(server: Running, store: ServedStore, client: Client) -> None:
    damaged, good = store.versions
    current = Path(store.uri, "indexes", "CURRENT")
    current.write_text(f"{damaged}\n")
    flip_a_byte(Path(store.uri, version_folder(damaged)), current)
    assert client.ask("POST", "/v1/reload").status == 409
    publish_now(Store(store.uri), good)
    assert client.ask("POST", "/v1/reload").json == {"version": good, "changed": False}
    assert client.ask("GET", "/readyz").json["refused"] is None
    assert client.metric("shelfmark_version_refused") == 0
