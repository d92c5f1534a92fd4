"""What is served and what is asked: one store for vectors and pictures, and bodies of requests."""

from __future__ import annotations

import base64
import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.index_data import Questions, prepare
from benchmarks.pictures import make_pictures
from benchmarks.reindex_cost import run_command
from benchmarks.serve_client import Bodies
from store.index import IndexManifest, commit_version, list_versions, read_index_manifest, version_folder
from store.location import Store
from store.process import utc_now
from store.publication import current_version
from store.snapshot import new_name

K = 10
SIDE_PX = 500
QUERIES_IN_BODY = (1, 16)
ENCODINGS = ("numbers", "base64")
FORMS = tuple((encoding, queries) for encoding in ENCODINGS for queries in QUERIES_IN_BODY)
"""How vectors are written, and how many are in a request."""

_BODIES = {1: 64, 16: 16}


def make_store(folder: Path, rows: int, seed: int, target_recall: float) -> dict[str, Any]:
    """Makes `folder`/store: synthetic vectors, two versions of their index, and an encoder that can be loaded.

    The vectors are no pictures' embeddings: what an answer costs does not depend on whether it makes sense.

    Returns:
        What there is now, for the record.
    """
    made = prepare(folder, rows, seed, keep_vectors=False, filters=False)
    store = Store(str(folder / "store"))
    run_command(["index", "--store", store.uri, "--target_recall", str(target_recall), "--format", "json"])
    manifest = adopt_encoder(store)
    twin = add_twin(store)
    write_bodies(folder)
    return {**made, "versions": [manifest.version, twin.version], "recall": manifest.recall.measured}


def adopt_encoder(store: Store) -> IndexManifest:
    """Puts ResNet50 with random weights into the store, and its name into the published version's manifest."""
    from pipelines.encoder_choices import EncoderChoices
    from pipelines.prepare_encoder import prepare_encoder

    source, _ = prepare_encoder(store, EncoderChoices(weights="random"))
    pixels = np.random.default_rng(0).integers(0, 256, (4, source.image_size, source.image_size, 3), np.uint8)
    spec = source.fixed_spec or source.choose(pixels)[0]
    manifest = dataclasses.replace(_published(store), encoder=spec.to_manifest())
    commit_version(store, manifest)
    return manifest


def add_twin(store: Store) -> IndexManifest:
    """A second version, the published one's files under a later name; not published."""
    manifest = _published(store)
    twin = dataclasses.replace(manifest, version=new_name(utc_now()))
    source, target = (Path(store.full_path(version_folder(name))) for name in (manifest.version, twin.version))
    shutil.copytree(source, target)
    commit_version(store, twin)
    return twin


def _published(store: Store) -> IndexManifest:
    name = current_version(store)
    assert name is not None  # the index command ended well
    return read_index_manifest(store, name)


def other_version(store: Store) -> str:
    """Of two versions, the one that is not published.

    Raises:
        RuntimeError: There are not two.
    """
    versions = list_versions(store)
    if len(versions) != 2:
        raise RuntimeError(f"{store.uri}: expected 2 versions, found {len(versions)}; measure the part data again")
    return next(name for name in versions if name != current_version(store))


def write_bodies(folder: Path) -> None:
    """Writes what `vector_bodies` and `picture_bodies` read."""
    vectors = Questions.load(folder).vectors
    for encoding, queries in FORMS:
        target = _vectors_folder(folder, encoding, queries)
        target.mkdir(parents=True, exist_ok=True)
        for number in range(_BODIES[queries]):
            rows = np.take(vectors, range(number * queries, (number + 1) * queries), axis=0, mode="wrap")
            chosen = [_written(row, encoding) for row in rows]
            asked = {"vector": chosen[0]} if queries == 1 else {"vectors": chosen}
            (target / f"{number:03d}.json").write_text(json.dumps({**asked, "k": K}), encoding="utf-8")
    make_pictures(folder, SIDE_PX)


def _written(vector: npt.NDArray[np.float32], encoding: str) -> list[float] | str:
    if encoding == "numbers":
        numbers: list[float] = vector.tolist()
        return numbers
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def vector_bodies(folder: Path, encoding: str, queries: int) -> Bodies:
    """JSON, each with so many vectors; a single one takes 22 kB as numbers and 11 kB as base64."""
    files = sorted(_vectors_folder(folder, encoding, queries).iterdir())
    return Bodies(tuple(files), "application/json", queries, encoding)


def picture_bodies(folder: Path) -> Bodies:
    """JPEGs whose long side is SIDE_PX."""
    return Bodies(tuple(picture_paths(folder)), "image/jpeg")


def picture_paths(folder: Path) -> Sequence[Path]:
    """The JPEGs."""
    return make_pictures(folder, SIDE_PX)


def _vectors_folder(folder: Path, encoding: str, queries: int) -> Path:
    return folder / "bodies" / f"{encoding}-{queries}"
