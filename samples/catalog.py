"""The demonstration catalog: pictures of made-up products in folders, and the table that lists them."""

from __future__ import annotations

import concurrent.futures
import csv
import functools
import multiprocessing
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from samples.design import Design, design_item
from samples.families import FAMILIES, draw_product
from samples.photographs import photograph
from store.errors import UserError

COLUMNS = ("item_id", "image_uri", "category", "colour", "pattern", "title")
Row = tuple[str, ...]

_CATALOG = "catalog.csv"
_UNFINISHED = "catalog.csv.unfinished"
_IMAGES = "images"
_PICTURE_NAME = re.compile(r"(?P<family>.+)-\d{6,}-v\d+\.(jpg|png|webp)")
_CHUNK_PICTURES = 48  # long enough to make handing out work free, short enough to show progress


def draw_catalog(
    directory: Path,
    items: int,
    views: int,
    seed: int,
    *,
    processes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Draws a catalog of made-up products.

    Pictures are DIRECTORY/images/<family>/<item_id>-v<k>.<jpg, png or webp>, k from 1, each side 400 to 600 px. The
    same seed draws the same bytes whatever the number of processes, and an item is the same however many there are.
    The table is written last: a run that was cut short leaves none, and may be repeated.

    Args:
        directory: A new or empty folder, or one that this function drew before, which it then draws anew.
        items: How many products, at least 1.
        views: How many pictures of each, at least 1.
        seed: At least 0.
        processes: How many draw at once; by default as many as there are processors.
        progress: Called in this process with the pictures drawn so far and the pictures in all.

    Returns:
        The path of the table, catalog.csv: one row per picture, its columns COLUMNS, image_uri relative to it.

    Raises:
        UserError: A number is too small, or the folder holds something else.
        OSError: The disk is full or not writable.
    """
    _check_numbers(items, views, seed, processes)
    _claim(directory)
    for family in list(FAMILIES)[:items]:
        (directory / _IMAGES / family).mkdir(parents=True, exist_ok=True)
    unfinished, catalog = directory / _UNFINISHED, directory / _CATALOG
    chunks = _draw_chunks(directory, items, views, seed, processes)
    _write_table(unfinished, chunks, items * views, progress)
    os.replace(unfinished, catalog)
    return catalog


def _check_numbers(items: int, views: int, seed: int, processes: int | None) -> None:
    for name, value, least in (
        ("items", items, 1),
        ("views", views, 1),
        ("seed", seed, 0),
        ("processes", processes, 1),
    ):
        if value is not None and value < least:
            raise UserError(f"{name} must be at least {least}, not {value}")


def _write_table(
    path: Path, chunks: Iterator[list[Row]], pictures: int, progress: Callable[[int, int], None] | None
) -> None:
    """Writes the table as the pictures are drawn, and says how far it is after each chunk."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        file.flush()  # from here on the folder is known as ours, even if the run is cut short
        drawn = 0
        for rows in chunks:
            table.writerows(rows)
            drawn += len(rows)
            if progress is not None:
                progress(drawn, pictures)


def _claim(directory: Path) -> None:
    """Makes the folder ours and empty, or refuses."""
    if directory.exists() and not directory.is_dir():
        raise UserError(f"{directory} is not a folder: choose a new folder")
    directory.mkdir(parents=True, exist_ok=True)
    tables = [directory / name for name in (_CATALOG, _UNFINISHED)]
    if any(directory.iterdir()) and not any(_is_ours(table) for table in tables):
        raise UserError(f"{directory} is not empty: it holds no catalog drawn before; choose a new folder")
    tables[0].unlink(missing_ok=True)
    for picture in directory.glob(f"{_IMAGES}/*/*"):
        name = _PICTURE_NAME.fullmatch(picture.name)
        if name and name["family"] == picture.parent.name and name["family"] in FAMILIES:
            picture.unlink()


def _is_ours(table: Path) -> bool:
    if not table.is_file():
        return False
    with table.open(encoding="utf-8", errors="replace") as file:
        return file.readline().rstrip("\n") == ",".join(COLUMNS)


def _draw_chunks(directory: Path, items: int, views: int, seed: int, processes: int | None) -> Iterator[list[Row]]:
    size = max(1, _CHUNK_PICTURES // views)
    chunks = [range(start, min(start + size, items)) for start in range(0, items, size)]
    draw = functools.partial(_draw_chunk, directory, views, seed)
    workers = min(processes or os.cpu_count() or 1, len(chunks))
    if workers == 1:
        yield from map(draw, chunks)
        return
    # Spawned, not forked: the caller may hold threads (TensorFlow, gRPC), which a fork would copy mid-step.
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=spawn) as pool:
        yield from pool.map(draw, chunks)


def _draw_chunk(directory: Path, views: int, seed: int, numbers: range) -> list[Row]:
    return [row for number in numbers for row in _draw_item(directory, views, seed, number)]


def _draw_item(directory: Path, views: int, seed: int, number: int) -> Iterator[Row]:
    names = list(FAMILIES)
    design = design_item(names[number % len(names)], number, seed)
    sprite = draw_product(design)
    for view in range(1, views + 1):
        rng = np.random.Generator(np.random.PCG64([seed, number, view]))
        suffix, options = _file_format(rng)
        uri = f"{_IMAGES}/{design.family}/{design.item_id}-v{view}{suffix}"
        photograph(sprite, rng, FAMILIES[design.family].stands).save(directory / uri, None, **options)
        yield _row(design, uri)


def _file_format(rng: np.random.Generator) -> tuple[str, dict[str, int]]:
    """Six in seven are JPEG, as in the catalogs people have; the fast settings of the others, for the same wait."""
    draw, quality = rng.random(), int(rng.integers(80, 93))
    if draw < 0.86:
        return ".jpg", {"quality": quality}
    if draw < 0.95:
        return ".webp", {"quality": quality, "method": 0}
    return ".png", {"compress_level": 1}


def _row(design: Design, uri: str) -> Row:
    return design.item_id, uri, design.family, design.colour, design.pattern, design.title
