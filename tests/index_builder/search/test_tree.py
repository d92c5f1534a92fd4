from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from index_builder.search.tree import Tree, TreeOptions
from store.errors import StoreError

ROWS, DIMENSION = 2_000, 17
OPTIONS = TreeOptions(leaves=20, training_rows=ROWS, threads=1)


@pytest.fixture(scope="module")
def projected() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((ROWS, DIMENSION)).astype(np.float32)


@pytest.fixture(scope="module")
def saved(projected: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trees") / "before"
    Tree.train(projected, OPTIONS).save(folder)
    return folder


def test_all_leaves_and_candidates_find_nearly_what_sorting_finds(projected: np.ndarray, saved: Path) -> None:
    tree = Tree.load(saved, ROWS)
    found, scores = tree.search(projected[3], 20, 500, 20)
    true = np.sort(projected @ projected[3])[::-1][:20]
    np.testing.assert_allclose(scores, true, rtol=0.02)
    assert found[0] == np.argmax(projected @ projected[3])


def test_a_saved_tree_is_found_wherever_its_folder_lies(projected: np.ndarray, saved: Path, tmp_path: Path) -> None:
    before = Tree.load(saved, ROWS).search(projected[5], 10, 50, 5)
    moved = tmp_path / "after"
    saved.rename(moved)
    try:
        np.testing.assert_array_equal(Tree.load(moved, ROWS).search(projected[5], 10, 50, 5)[0], before[0])
    finally:
        moved.rename(saved)


def test_a_batch_answers_as_one_query_does(projected: np.ndarray, saved: Path) -> None:
    tree = Tree.load(saved, ROWS)
    batch, _ = tree.search_batch(projected[:8], 10, 50, 5)
    for number in range(8):
        np.testing.assert_array_equal(batch[number], tree.search(projected[number], 10, 50, 5)[0])


def test_a_tree_with_a_file_missing_is_an_error(saved: Path, tmp_path: Path) -> None:
    for file in saved.iterdir():
        if file.name != "serialized_partitioner.pb":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(StoreError, match="ScaNN cannot read it"):
        Tree.load(tmp_path, ROWS)


def test_what_would_end_the_process_is_refused() -> None:
    rows = np.zeros((100, 4), np.float32)
    with pytest.raises(ValueError, match="at least 320 rows for 20 leaves, found 100"):
        Tree.train(rows, OPTIONS)
    rows = np.zeros((2_000, 4), np.float32)
    rows[7, 1] = np.nan
    with pytest.raises(ValueError, match="finite"):
        Tree.train(rows, OPTIONS)


@pytest.mark.parametrize(
    ("plain", "hostile"),
    [
        ('asset_path: "hashed_dataset.npy"', 'asset_path: "../hashed_dataset.npy"'),
        ('asset_path: "hashed_dataset.npy"', 'asset_path:"/etc/hostname"'),
        ('asset_path: "hashed_dataset.npy"', "asset_path: '/etc/hostname'"),
        ('asset_path: "hashed_dataset.npy"', 'asset_path: "" "/../../../etc/hostname"'),
        ('asset_path: "hashed_dataset.npy"', 'asset_path: "\\056\\056/x"'),
        ("assets {", 'assets { asset_path: "/etc/hostname" }\nassets {'),
        ('asset_path: "hashed_dataset.npy"', 'asset_path: "link"'),
    ],
)
def test_a_tree_that_names_files_elsewhere_is_not_given_to_scann(
    plain: str, hostile: str, saved: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "tree"
    folder.mkdir()
    for file in saved.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (tmp_path / "hashed_dataset.npy").write_bytes((saved / "hashed_dataset.npy").read_bytes())
    (folder / "link").symlink_to(tmp_path / "hashed_dataset.npy")
    assets = (folder / "scann_assets.pbtxt").read_text()
    assert plain in assets
    (folder / "scann_assets.pbtxt").write_text(assets.replace(plain, hostile, 1))
    with pytest.raises(StoreError, match=r"list of ScaNN's files|inside its folder"):
        Tree.load(folder, ROWS)
