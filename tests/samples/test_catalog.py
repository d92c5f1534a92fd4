"""The demonstration catalog: repeatable, growable, and its items can be told apart."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from samples.catalog import COLUMNS, draw_catalog
from samples.design import MOTIFS, PATTERNS, design_item
from samples.families import FAMILIES
from samples.patterns import motif_outline, paint_pattern
from store.errors import UserError

ITEMS, VIEWS, SEED = 42, 3, 5
FORMATS = {".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP"}


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_catalog(tmp_path_factory.mktemp("catalog"), ITEMS, VIEWS, SEED, processes=1)


def _rows(catalog: Path) -> list[dict[str, str]]:
    with catalog.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _files(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def test_table_lists_every_picture_and_nothing_else(catalog: Path) -> None:
    rows = _rows(catalog)
    assert tuple(rows[0]) == COLUMNS
    assert len({row["item_id"] for row in rows}) == ITEMS
    assert {row["image_uri"] for row in rows} | {"catalog.csv"} == set(_files(catalog.parent))
    assert len(rows) == ITEMS * VIEWS
    assert {row["category"] for row in rows} == set(FAMILIES)
    assert all(Path(row["image_uri"]).parts[:2] == ("images", row["category"]) for row in rows)


def test_pictures_open_in_the_format_their_name_says(catalog: Path) -> None:
    seen = set()
    for row in _rows(catalog):
        path = catalog.parent / row["image_uri"]
        with Image.open(path) as picture:
            picture.load()
            assert picture.format == FORMATS[path.suffix]
            assert picture.mode == "RGB"
            assert 400 <= min(picture.size) <= max(picture.size) <= 600
            seen.add(picture.format)
    assert seen == set(FORMATS.values())


def test_same_seed_same_bytes_whatever_the_processes(catalog: Path, tmp_path: Path) -> None:
    draw_catalog(tmp_path, ITEMS, VIEWS, SEED, processes=2)
    assert _files(tmp_path) == _files(catalog.parent)


def test_items_do_not_depend_on_how_many_there_are(catalog: Path, tmp_path: Path) -> None:
    fewer = _files(draw_catalog(tmp_path, 9, 2, SEED, processes=1).parent)
    fewer.pop("catalog.csv")
    whole = _files(catalog.parent)
    assert len(fewer) == 18
    assert all(whole[name] == content for name, content in fewer.items())


def test_another_seed_draws_other_pictures(catalog: Path, tmp_path: Path) -> None:
    other = {path.stem: path.read_bytes() for path in draw_catalog(tmp_path, 9, 1, SEED + 1).parent.rglob("*-v1.*")}
    ours = {path.stem: path.read_bytes() for path in catalog.parent.rglob("*-v1.*")}
    assert len(other) == 9
    assert all(ours[name] != content for name, content in other.items())


def test_views_of_an_item_look_more_alike_than_other_items_do(catalog: Path) -> None:
    rows = _rows(catalog)
    features = np.stack([_colour_histogram(catalog.parent / row["image_uri"]) for row in rows])
    items = np.array([row["item_id"] for row in rows])
    overlap = np.minimum(features[:, None], features[None]).sum(axis=2)
    np.fill_diagonal(overlap, -1)
    same = items[:, None] == items[None]
    found = (items[overlap.argmax(axis=1)] == items).mean()
    assert found > 0.6  # by chance 2 in 125
    np.fill_diagonal(overlap, 0)
    own = np.where(same, overlap, 0).sum(axis=1) / (VIEWS - 1)
    others = np.where(~same, overlap, 0).sum(axis=1) / (len(rows) - VIEWS)
    assert (own > others + 0.15).mean() > 0.9


def _colour_histogram(path: Path) -> NDArray[np.float64]:
    """Colours of the picture's middle, [512], summing to 1."""
    with Image.open(path) as picture:
        width, height = picture.size
        middle = picture.crop((width // 4, height // 4, width * 3 // 4, height * 3 // 4)).resize((64, 64))
    bins = (np.asarray(middle, np.int64) // 32) @ np.array([64, 8, 1])
    return np.bincount(bins.ravel(), minlength=512) / bins.size


def test_progress_reaches_the_whole_and_never_goes_back(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    draw_catalog(tmp_path, 30, 2, 1, processes=1, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (60, 60)
    assert calls == sorted(set(calls))
    assert len(calls) > 1


def test_redraws_its_own_folder_and_leaves_nothing_over(tmp_path: Path) -> None:
    draw_catalog(tmp_path, 6, 2, 1, processes=1)
    draw_catalog(tmp_path, 3, 1, 1, processes=1)
    assert len(_files(tmp_path)) == 3 + 1


def test_interrupted_run_leaves_no_catalog_and_can_be_repeated(tmp_path: Path) -> None:
    draw_catalog(tmp_path, 2, 1, 1, processes=1)

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw_catalog(tmp_path, 2, 1, 1, processes=1, progress=interrupt)
    assert not (tmp_path / "catalog.csv").exists()
    assert len(_rows(draw_catalog(tmp_path, 2, 1, 1, processes=1))) == 2


@pytest.mark.parametrize(
    ("items", "views", "seed", "processes"), [(0, 1, 0, 1), (1, 0, 0, 1), (1, 1, -1, 1), (1, 1, 0, 0)]
)
def test_refuses_numbers_that_are_too_small(tmp_path: Path, items: int, views: int, seed: int, processes: int) -> None:
    with pytest.raises(UserError, match="must be at least"):
        draw_catalog(tmp_path / "new", items, views, seed, processes=processes)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["notes.txt", "catalog.csv"])
def test_refuses_a_folder_that_holds_something_else(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("sku,url\n1,a.jpg\n")
    with pytest.raises(UserError, match=r"is not empty.*choose a new folder"):
        draw_catalog(tmp_path, 1, 1, 0)
    assert os.listdir(tmp_path) == [name]


def test_refuses_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is not a folder"):
        draw_catalog(tmp_path / "file", 1, 1, 0)


@pytest.mark.parametrize("motif", MOTIFS)
def test_motifs_stay_within_their_square(motif: str) -> None:
    outline = motif_outline(motif)
    assert np.abs(outline).max() <= 1.02
    assert np.ptp(outline, axis=0).min() > 0.7


@pytest.mark.parametrize("pattern", sorted(set(PATTERNS) - {"plain", "print", "logo"}))
def test_patterns_show_against_their_ground(pattern: str) -> None:
    design = next(d for n in range(500) if (d := design_item("mug", n, 3)).pattern == pattern)
    cloth = np.asarray(paint_pattern(design, 200).convert("L"), np.float64)
    assert cloth.std() > 8
