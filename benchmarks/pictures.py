"""Catalogs for measuring: sample products drawn once, scaled to a size, as JPEG."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from samples.catalog import draw_catalog

JPEG_QUALITY = 88
DISTINCT_PICTURES = 96


def make_catalog(folder: Path, name: str, rows: int, side_px: int) -> Path:
    """A CSV of `rows` rows over 96 distinct JPEGs whose long side is `side_px`, textured as photographs are.

    Every row has an image_uri of its own, for rows that share one are fetched and embedded once: each time through the
    pictures goes by another link to their folder. Bytes may repeat, they are compared with earlier snapshots only.

    Returns:
        The table's path.
    """
    files = make_pictures(folder, side_px)
    links = folder / f"rounds-{side_px}"
    links.mkdir(exist_ok=True)
    for number in range(-(-rows // len(files))):
        link = links / f"{number:05d}"
        if not link.is_symlink():
            link.symlink_to(files[0].parent.absolute(), target_is_directory=True)
    uris = (links / f"{row // len(files):05d}" / files[row % len(files)].name for row in range(rows))
    return write_table(folder / f"{name}.csv", uris)


def write_table(table: Path, image_uris: Iterable[Path]) -> Path:
    """A CSV with one row for each picture; returns its path."""
    with open(table, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["item_id", "image_uri", "category"])
        writer.writerows([f"item-{row:07d}", str(uri), "sample"] for row, uri in enumerate(image_uris))
    return table


def make_pictures(folder: Path, side_px: int) -> list[Path]:
    """The 96 JPEGs whose long side is `side_px`, drawn unless `folder` has them."""
    pictures = folder / f"jpeg-{side_px}"
    if not pictures.is_dir():
        _make_pictures(folder, pictures, side_px)
    return sorted(pictures.iterdir())


def _make_pictures(folder: Path, pictures: Path, side_px: int) -> None:
    drawn = folder / "drawn"
    if not (drawn / "catalog.csv").is_file():
        draw_catalog(drawn, items=DISTINCT_PICTURES // 2, views=2, seed=1)
    pictures.mkdir(parents=True)
    rng = np.random.default_rng(0)
    with open(drawn / "catalog.csv", encoding="utf-8") as table:
        sources = [drawn / row["image_uri"] for row in csv.DictReader(table)]
    for index, source in enumerate(sources):
        with Image.open(source) as image:
            scale = side_px / max(image.size)
            size = (round(image.width * scale), round(image.height * scale))
            pixels = np.asarray(image.convert("RGB").resize(size, Image.Resampling.LANCZOS), np.int16)
        # A drawing alone is smoother than a photograph and quicker to decode; grain makes files as large as a camera's.
        pixels = np.clip(pixels + rng.integers(-12, 13, pixels.shape, np.int16), 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=JPEG_QUALITY)
        (pictures / f"{index:03d}.jpg").write_bytes(buffer.getvalue())
