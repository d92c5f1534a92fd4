"""Writes the golden stores of a format version: python -m tests.golden.make FOLDER [COMMAND ...].

To be run once, by the release that brings the version, and its result committed; never to make a failing test pass.
FOLDER is named for the version and lies where a path says nothing of a machine, such as /golden/1. COMMAND is how that
release is called, if not as `python -m shelfmark`.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.vectors import write_snapshot
from index_builder.build import BuildRequest, build_index, plan
from store.location import Store
from tests.golden.weights import write_weights

ENCODER = ["--backbone", "mobilenetv3small", "--image_size", "32", "--precision", "float32"]
GATES = ["--max_reject_ratio", "0.5", "--min_overlap", "0", "--k", "3"]
COLUMNS = ("image_id", "item_id", "image_uri", "colour", "title")
MODIFIED_S = 1_767_225_600
"""When every picture was last modified, in seconds since 1970: what tells an unchanged file."""


def draw(path: Path, number: int) -> None:
    """A picture of 40 x 30 pixels, in stripes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((30, 40, 3), np.uint8)
    for stripe in range(5):
        pixels[:, 8 * stripe : 8 * stripe + 8] = [(number * 37 + stripe * 51) % 256, stripe * 50, (number * 91) % 256]
    Image.fromarray(pixels).save(path)
    os.utime(path, (MODIFIED_S, MODIFIED_S))


def rows(count: int) -> list[dict[str, str]]:
    """Two pictures to an item; the last row's file is missing."""
    found = [
        {
            "image_id": f"picture-{number}",
            "item_id": f"item-{number // 2}",
            "image_uri": f"{number}.png",
            "colour": "red" if number % 3 else "blue",
            "title": f"Ärmel № {number}",
        }
        for number in range(count)
    ]
    return [*found, {**found[-1], "image_id": "missing", "image_uri": "missing.png"}]


def write_catalog(path: Path, listed: list[dict[str, str]]) -> None:
    """A CSV in UTF-8."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(listed)


def make(folder: Path, command: list[str]) -> None:
    """A catalog, a store of two nights of it, and a store with a tree."""
    catalog, store = folder / "catalog" / "catalog.csv", folder / "store"
    for number in range(12):
        draw(catalog.parent / f"{number}.png", number)
    with tempfile.TemporaryDirectory() as scratch:
        weights = write_weights(Path(scratch, "golden.weights.h5"))
        reindex = [*command, "reindex", "--catalog", str(catalog), "--store", str(store), "--weights", str(weights)]
        for listed in (rows(11), rows(12)[1:]):
            write_catalog(catalog, listed)
            subprocess.run([*reindex, *ENCODER, *GATES], check=True)
    refused = [*command, "reindex", "--catalog", str(catalog), "--store", str(store), "--max_reject_ratio", "0"]
    subprocess.run([*refused, *ENCODER, "--weights", "random"], check=False)
    shutil.rmtree(store / "weights")  # tests write them anew
    search = ["search", "--store", str(store), "--image_id", "picture-3", "-k", "4", "--format", "json"]
    answer = subprocess.run([*command, *search], check=True, capture_output=True)
    (folder / "answer.json").write_text(json.dumps(json.loads(answer.stdout), indent=1, ensure_ascii=False) + "\n")


def make_tree(store: Store) -> None:
    """640 made-up vectors behind a tree, which a catalog of this size would not get."""
    plan.EXACT_BYTES, plan.QUERIES = 0, 50
    write_snapshot(store, 640, seed=1, dimensions=16)
    build_index(store, BuildRequest(target_recall=0.9, k=5, dimensions=8, workers=1))


if __name__ == "__main__":
    make(Path(sys.argv[1]), sys.argv[2:] or [sys.executable, "-m", "shelfmark"])
    make_tree(Store(str(Path(sys.argv[1], "tree"))))
