"""Choosing how many dimensions a version is projected to, with a tree of the first shard for each that is tried."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from index_builder.build.exact_neighbours import Queries
from index_builder.build.measurement import Stopwatch
from index_builder.build.plan import Plan
from index_builder.build.projection import Basis
from index_builder.build.shard import train_tree
from index_builder.build.tuning import MARGIN, Trial, Truth, fastest, try_settings
from index_builder.search.engine import CODES_FILE, SCALES_FILE, Settings, TreeEngine, TreeShard
from index_builder.search.tree import Tree, TreeOptions

_FIRST_DIMENSION = 128


@dataclasses.dataclass(frozen=True)
class DimensionChoice:
    """Climbs from 128 dimensions towards whichever neighbour reaches the target faster.

    Attributes:
        folder: Of a shard that is ingested, its projected rows not yet removed.
        plan: Dimensions to try, and leaves.
        options: How the shard's tree is built.
        basis: Of the projection.
        queries: Rows to choose with.
        truth: Their exact neighbours within the shard.
        k: Neighbours wanted.
        target: Recall to reach.
        say: Told what is going on.
        watch: Adds up the seconds.
    """

    folder: Path
    plan: Plan
    options: TreeOptions
    basis: Basis
    queries: Queries
    truth: Truth
    k: int
    target: float
    say: Callable[[str], None]
    watch: Stopwatch

    def run(self) -> tuple[Tree, list[Trial], Trial]:
        """The best dimension's tree, all trials, and the best trial."""
        tried = self.plan.dimensions
        at = max((i for i, dimension in enumerate(tried) if dimension <= _FIRST_DIMENSION), default=0)
        tree, trials = self._try(tried[at])
        best = self._best(trials)
        seen = list(trials)
        for step in (-1, 1):
            place, moved = at + step, False
            while 0 <= place < len(tried):
                other_tree, other_trials = self._try(tried[place])
                seen += other_trials
                other = self._best(other_trials)
                if not self._beats(other, best):
                    break
                tree, best, moved = other_tree, other, True
                place += step
            if moved:
                break
        return tree, seen, best

    def _try(self, dimension: int) -> tuple[Tree, list[Trial]]:
        self.say(f"trying {dimension} dimensions")
        with self.watch.time(f"train_{dimension}_s"):
            tree = train_tree(self.folder, self.basis.scale(dimension), self.options)
        codes = np.load(self.folder / CODES_FILE, mmap_mode="r").view(np.ndarray)
        shard = TreeShard(tree, self.plan.leaves, codes, np.load(self.folder / SCALES_FILE))
        engine = TreeEngine([shard], self.basis.projection(dimension), Settings(1, self.k, self.k, self.k))
        with self.watch.time("tune_s"):
            return tree, try_settings(
                engine, self.plan.leaves, dimension, self.queries, self.truth, self.k, self.target
            )

    def _best(self, trials: list[Trial]) -> Trial:
        return fastest(trials, self.target + MARGIN)

    def _beats(self, one: Trial, other: Trial) -> bool:
        target = self.target + MARGIN
        if (one.recall >= target) != (other.recall >= target):
            return one.recall >= target
        return one.latency_ms < other.latency_ms if one.recall >= target else one.recall > other.recall
