"""A catalog of a few plain pictures, and their rows."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.http_server import jpeg


def put(path: Path, number: int, when: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(jpeg(number))
    os.utime(path, ns=(0, when * 1_000_000_000))
    return path


def draw(folder: Path, count: int) -> list[dict[str, str]]:
    return [
        {"image_id": f"id{n}", "item_id": f"item{n}", "image_uri": put(folder / f"{n}.jpg", n).name, "colour": "red"}
        for n in range(count)
    ]
