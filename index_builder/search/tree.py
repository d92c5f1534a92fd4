"""ScaNN over projected rows: partitioned, hashed, re-ordered by int8 copies; trained, saved, loaded, searched.

ScaNN ends the process on input it does not like (NaN, more leaves than rows, more neighbours than rows), so what it is
given is checked here. Its saved files name each other by absolute path; here they are named relative to their folder.

Source: Guo et al., "Accelerating Large-Scale Inference with Anisotropic Vector Quantization", ICML 2020.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from store.errors import StoreError, UserError
from store.inner_paths import inner_path, refuse_links

Float32 = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

LEAST_ROWS_PER_LEAF = 16
"""ScaNN ends the process on smaller leaves than it was told to expect."""

_ASSETS = "scann_assets.pbtxt"
_ASSET = re.compile(r'assets \{\n  asset_type: ([A-Z0-9_]+)\n  asset_path: "([^"\\\n]+)"\n\}\n')
_ANISOTROPIC_THRESHOLD = 0.2
_KMEANS_ITERATIONS = 10


def _scann() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # ScaNN imports TensorFlow, which would fill the console
    try:
        from scann.scann_ops.py import scann_ops_pybind
    except ImportError as error:
        raise UserError(
            f"cannot load ScaNN ({error}); it exists for Linux on x86-64 only: build and search the index there"
        ) from error
    return scann_ops_pybind


def hash_blocks(dimension: int) -> list[tuple[int, int]]:
    """How asymmetric hashing cuts a projected row: (blocks, dimensions of each), 4 bits for a block.

    The strongest three eighths in twos and the rest in fours: at equal recall a scan reads a third less than with twos
    throughout, as components that vary little need fewer bits.
    """
    fine = 2 * math.ceil(3 * dimension / 16)
    coarse, rest = divmod(dimension - min(fine, dimension), 4)
    sizes = [(min(fine, dimension) // 2, 2), (coarse, 4), (1, rest + (min(fine, dimension) % 2))]
    return [(count, size) for count, size in sizes if count and size]


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keeps ScaNN's C++ log lines, which no setting silences, off the console."""
    saved = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


@dataclasses.dataclass(frozen=True, slots=True)
class TreeOptions:
    """How a tree is built.

    Attributes:
        leaves: Partitions; at most a sixteenth of the rows.
        training_rows: Rows that the partition and the hash are trained on.
        threads: Used for training.
    """

    leaves: int
    training_rows: int
    threads: int


class Tree:
    """A searchable tree over n projected rows of d dimensions. Searching is thread-safe: nothing is set on it."""

    def __init__(self, searcher: Any, rows: int) -> None:
        self._searcher = searcher
        self.rows = rows

    @classmethod
    def train(cls, projected: Float32, options: TreeOptions) -> Tree:
        """Builds a tree.

        Args:
            projected: float32[n, d], C-contiguous, n of at least 16.
            options: Leaves and training.

        Raises:
            ValueError: ScaNN would not survive this input.
        """
        rows, dimension = projected.shape
        if not np.isfinite(projected).all():
            raise ValueError("expected finite projected rows, found NaN or infinity")
        least = LEAST_ROWS_PER_LEAF * options.leaves
        if rows < least:
            raise ValueError(f"expected at least {least} rows for {options.leaves} leaves, found {rows}")
        scann = _scann()
        config = _config(dimension, min(rows, 100), options)
        with _silent():
            return cls(scann.create_searcher(np.ascontiguousarray(projected), config, options.threads), rows)

    def save(self, folder: Path) -> None:
        """Writes the tree's files into an empty folder.

        Raises:
            StoreError: They cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with _silent():
                self._searcher.serialize(str(folder))
        except RuntimeError as error:
            raise StoreError(f"cannot write {folder}: {error}; is there space left on the device?") from error
        assets = (folder / _ASSETS).read_text(encoding="utf-8")
        relative = re.sub(r'(asset_path: ")[^"]*/', r"\1", assets)
        (folder / _ASSETS).write_text(relative, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, rows: int) -> Tree:
        """Reads a tree back, wherever its folder lies now.

        Raises:
            StoreError: ScaNN cannot read it.
        """
        scann = _scann()
        located = _located_assets(folder)
        try:
            with _silent():
                return cls(scann.ScannSearcher(scann.scann_pybind.ScannNumpy(str(folder), located)), rows)
        except (RuntimeError, ValueError, IndexError) as error:
            raise StoreError(f"{folder}: ScaNN cannot read it: {error}") from error

    def search(self, query: Float32, count: int, first: int, leaves: int) -> tuple[npt.NDArray[Any], Float32]:
        """The best rows for one projected query.

        Args:
            query: float32[d].
            count: Rows wanted, at most n.
            first: Candidates that hashing passes on to the int8 copies, from `count`.
            leaves: Leaves to look into.

        Returns:
            uint32[m] row numbers, the best first, and their approximate inner products float32[m]; m may be less than
            `count` when the leaves hold less.
        """
        found: tuple[npt.NDArray[Any], Float32] = self._searcher.searcher.search(query, count, first, leaves)
        return found

    def search_batch(self, queries: Float32, count: int, first: int, leaves: int) -> tuple[npt.NDArray[Any], Float32]:
        """`search` for float32[q, d] queries: uint32[q, count] and float32[q, count], NaN where there is less."""
        found: tuple[npt.NDArray[Any], Float32] = self._searcher.search_batched(queries, count, first, leaves)
        return found


def _located_assets(folder: Path) -> str:
    """What a saved tree says it is made of, each file by its absolute path.

    Raises:
        StoreError: It is not what `Tree.save` writes, or names a file elsewhere: ScaNN would open any.
    """
    said = (folder / _ASSETS).read_text(encoding="utf-8")
    if not re.fullmatch(rf"(?:{_ASSET.pattern})*", said):
        raise StoreError(f"{folder / _ASSETS}: expected a list of ScaNN's files, found {said!r:.80}")
    for _, name in _ASSET.findall(said):
        refuse_links(folder, inner_path(name))
    quoted = str(folder.resolve()).replace("\\", "\\\\").replace('"', '\\"')
    return said.replace('asset_path: "', f'asset_path: "{quoted}/')


def _config(dimension: int, neighbours: int, options: TreeOptions) -> str:
    """ScaNN's configuration as a text protocol buffer."""
    blocks = " ".join(
        f"variable_blocks {{ num_blocks: {count} num_dims_per_block: {size} }}"
        for count, size in hash_blocks(dimension)
    )
    product = '{ distance_measure: "DotProductDistance" }'
    squared = '{ distance_measure: "SquaredL2Distance" }'
    return f"""
num_neighbors: {neighbours}
distance_measure {product}
partitioning {{
  num_children: {options.leaves}
  min_cluster_size: {LEAST_ROWS_PER_LEAF}
  max_clustering_iterations: {_KMEANS_ITERATIONS}
  single_machine_center_initialization: RANDOM_INITIALIZATION
  partitioning_distance {squared}
  query_spilling {{ spilling_type: FIXED_NUMBER_OF_CENTERS max_spill_centers: {max(1, options.leaves // 8)} }}
  expected_sample_size: {options.training_rows}
  query_tokenization_distance_override {product}
  partitioning_type: GENERIC
  query_tokenization_type: FLOAT
}}
hash {{ asymmetric_hash {{
  lookup_type: INT8_LUT16
  use_residual_quantization: true
  use_global_topn: true
  quantization_distance {squared}
  num_clusters_per_block: 16
  projection {{ input_dim: {dimension} projection_type: VARIABLE_CHUNK {blocks} }}
  noise_shaping_threshold: {_ANISOTROPIC_THRESHOLD}
  expected_sample_size: {options.training_rows}
  max_clustering_iterations: {_KMEANS_ITERATIONS}
}} }}
exact_reordering {{ approx_num_neighbors: {neighbours} fixed_point {{ enabled: true }} }}
"""
