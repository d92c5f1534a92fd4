"""Building a version with trees: projected, sharded, trained, tuned to its target by measurement."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from index_builder.build.dimension_choice import DimensionChoice
from index_builder.build.exact_neighbours import TIES, ExactSearch, Queries
from index_builder.build.measurement import (
    METHOD,
    MeasuredIndex,
    Stopwatch,
    describe_latency,
    measure,
    round_down,
    write_truth,
)
from index_builder.build.plan import SAMPLE_ROWS, Plan
from index_builder.build.previous_version import Previous
from index_builder.build.projection import Basis, fit_basis
from index_builder.build.shard import (
    PROJECTED_FILE,
    Guide,
    Ingested,
    ShardTask,
    ingest,
    shard_name,
    take_findings,
    train_tree,
)
from index_builder.build.snapshot_rows import SnapshotRows
from index_builder.build.tuning import MARGIN, Trial, Truth, fastest, pareto, repeat_trials, try_settings
from index_builder.search.engine import CODES_FILE, TREE_FOLDER, Settings, TreeEngine, TreeShard
from index_builder.search.searcher import PROJECTION_FILE
from index_builder.search.tree import Tree, TreeOptions
from index_builder.search.version_files import fetch_missing
from store.index import version_folder
from store.location import Store
from store.measured import Recall, ShardEntry, TreeConfig

Float32 = npt.NDArray[np.float32]

RunShards = Callable[[Sequence[ShardTask], int], None]
"""Builds shards, so many at once, wherever it likes; all are built when it returns."""

_MOST_CHOICES = 8


@dataclasses.dataclass(frozen=True)
class TreeVersion:
    """Everything that building a version with trees goes by.

    Attributes:
        store: Where snapshot and version are.
        snapshot: The rows.
        version: The version's name.
        folder: The version's, on a local disk.
        plan: Shards, dimensions to try, leaves.
        k: Neighbours that recall is measured over.
        target: Recall to reach.
        seed: Of every sample.
        threads: For training.
        say: Told what is going on.
        watch: Adds up the seconds.
    """

    store: Store
    snapshot: SnapshotRows
    version: str
    folder: Path
    plan: Plan
    k: int
    target: float
    seed: int
    threads: int
    say: Callable[[str], None]
    watch: Stopwatch

    def build(self, run_shards: RunShards) -> MeasuredIndex:
        """Builds and measures the version.

        Raises:
            StoreError: Rows cannot be read or files not written.
        """
        basis, queries = self._sample()
        first, trials, trial = self._first_shard(basis, queries)
        guide = Guide(queries, basis.components[:, : trial.dimensions], basis.scale(trial.dimensions))
        engine, truth = self._all_shards(guide, first, trial.settings, run_shards)
        if self.plan.shards > 1:
            self.say("measuring settings over all shards")
            with self.watch.time("tune_s"):
                choosing = queries.every_other()[0]
                trials = try_settings(
                    engine, self.plan.leaves, trial.dimensions, choosing, _half(truth, 0), self.k, self.target
                )
        return self._measured(engine, trial.dimensions, trials, queries, truth)

    def build_like(self, previous: Previous, run_shards: RunShards) -> MeasuredIndex:
        """Builds and measures the version with another's projection and settings: nothing is chosen but among those.

        Raises:
            StoreError: Rows cannot be read or files not written.
        """
        with self.watch.time("sample_s"):
            queries = Queries(*self.snapshot.sample(2 * self.plan.queries, self.seed))
        guide = Guide(queries, previous.projection, np.ones(previous.dimensions, np.float32))
        first = self._read_first(queries, guide.components)
        with self.watch.time("train_s"):
            self._save_first(train_tree(self.folder / shard_name(0), guide.scale, self.options()))
        engine, truth = self._all_shards(guide, first, previous.trials[0].settings, run_shards)
        with self.watch.time("measure_s"):
            choosing = queries.every_other()[0]
            trials = repeat_trials(engine, previous.trials, choosing, _half(truth, 0), self.k)
        return self._measured(engine, previous.dimensions, trials, queries, truth)

    def _all_shards(
        self, guide: Guide, first: Ingested, settings: Settings, run_shards: RunShards
    ) -> tuple[TreeEngine, Truth]:
        """Builds all shards but the first; the index over all of them, and the queries' exact neighbours."""
        projection = np.ascontiguousarray(guide.components * guide.scale)
        np.save(self.folder / PROJECTION_FILE, projection)
        tasks = self._tasks()
        if tasks:
            self.say(f"building {len(tasks)} more shards, {self.plan.workers} at once")
            guide.save(self.store, version_folder(self.version))
            with self.watch.time("shards_s"):
                run_shards(tasks, self.plan.workers)
            fetch_missing(self.store, version_folder(self.version), self.folder)
        truth = self._whole_truth(guide.queries, first, [take_findings(task) for task in tasks])
        return self._open(projection, settings), truth

    def _measured(
        self, engine: TreeEngine, dimensions: int, trials: list[Trial], queries: Queries, truth: Truth
    ) -> MeasuredIndex:
        own = [one for one in trials if one.dimensions == dimensions]
        measuring = queries.every_other()[1]
        with self.watch.time("measure_s"):
            chosen, measured = self._choose(engine, own, measuring, _half(truth, 1))
        return self._describe(engine.with_settings(chosen.settings), chosen, measured, trials, measuring, truth)

    def _sample(self) -> tuple[Basis, Queries]:
        with self.watch.time("sample_s"):
            numbers, sample = self.snapshot.sample(SAMPLE_ROWS, self.seed)
        places = np.random.default_rng(self.seed + 1).permutation(len(numbers))
        asked = np.sort(places[: 2 * self.plan.queries])
        queries = Queries(numbers[asked], sample[asked].copy())
        with self.watch.time("projection_s"):
            # What recall is measured with has no part in the fit, unless there is too little else.
            rest = np.sort(places[len(asked) :])
            fitted = sample[rest] if len(rest) >= len(asked) else sample
            return fit_basis(fitted, self.plan.dimensions[-1], self.seed), queries

    def _first_shard(self, basis: Basis, queries: Queries) -> tuple[Ingested, list[Trial], Trial]:
        """Builds the first shard, and with it chooses the dimension that all shards have."""
        found = self._read_first(queries, basis.components)
        truth = _half((found.truth_rows, found.truth_scores), 0)
        choice = DimensionChoice(
            folder=self.folder / shard_name(0),
            plan=self.plan,
            options=self.options(),
            basis=basis,
            queries=queries.every_other()[0],
            truth=truth,
            k=self.k,
            target=self.target,
            say=self.say,
            watch=self.watch,
        )
        tree, trials, trial = choice.run()
        with self.watch.time("train_s"):
            self._save_first(tree)
        return found, trials, trial

    def _read_first(self, queries: Queries, components: Float32) -> Ingested:
        start, stop = self.plan.spans()[0]
        self.say(f"reading {stop - start:,} of {self.plan.rows:,} rows")
        found = ingest(self.snapshot, start, stop, self.folder / shard_name(0), queries, self.k, components)
        self.watch.add("read_s", found.read_s)
        self.watch.add("truth_s", found.truth_s)
        return found

    def _save_first(self, tree: Tree) -> None:
        tree.save(self.folder / shard_name(0) / TREE_FOLDER)
        (self.folder / shard_name(0) / PROJECTED_FILE).unlink()

    def options(self) -> TreeOptions:
        """How every shard's tree is built."""
        return TreeOptions(self.plan.leaves, self.plan.training_rows, self.threads)

    def _tasks(self) -> list[ShardTask]:
        folder = version_folder(self.version)
        return [
            ShardTask(self.store, self.snapshot.manifest.snapshot, folder, number, start, stop, self.k, self.options())
            for number, (start, stop) in enumerate(self.plan.spans())
            if number
        ]

    def _whole_truth(self, queries: Queries, first: Ingested, others: list[Ingested]) -> Truth:
        if not others:
            return first.truth_rows, first.truth_scores
        exact = ExactSearch(queries, self.k + TIES)
        for found in (first, *others):
            exact.merge(found.truth_rows, found.truth_scores)
        for found in others:
            self.watch.add("truth_s", found.truth_s)
        return exact.best()

    def _open(self, projection: Float32, settings: Settings) -> TreeEngine:
        folders = [self.folder / shard_name(number) for number in range(self.plan.shards)]
        return TreeEngine([TreeShard.open(folder, self.plan.leaves) for folder in folders], projection, settings)

    def _choose(self, engine: TreeEngine, trials: list[Trial], queries: Queries, truth: Truth) -> tuple[Trial, float]:
        """The fastest trial that also reaches the target on queries that did not choose it, and its recall there."""
        chosen = fastest(trials, self.target + MARGIN)
        best = chosen, measure(engine.with_settings(chosen.settings), queries, truth, self.k)
        for _ in range(_MOST_CHOICES):
            if best[1] >= self.target:
                break
            better = [trial for trial in trials if trial.recall > chosen.recall]
            if not better:
                break
            chosen = min(better, key=lambda trial: trial.latency_ms)
            measured = measure(engine.with_settings(chosen.settings), queries, truth, self.k)
            best = max(best, (chosen, measured), key=lambda pair: pair[1])
        return best

    def _describe(
        self, engine: TreeEngine, chosen: Trial, measured: float, trials: list[Trial], queries: Queries, truth: Truth
    ) -> MeasuredIndex:
        with self.watch.time("measure_s"):
            latency = describe_latency(engine, queries, self.k)
        write_truth(self.folder, queries, _half(truth, 1), self.k)
        settings = chosen.settings
        return MeasuredIndex(
            engine=engine,
            config=TreeConfig(
                dimensions=chosen.dimensions,
                leaves=self.plan.leaves,
                leaves_to_search=settings.leaves_to_search,
                first_candidates=settings.first_candidates,
                candidates=settings.candidates,
                k=settings.k,
                training_rows=self.plan.training_rows,
                shards=self.plan.shards,
                plan=dataclasses.asdict(self.plan),
            ),
            recall=Recall(
                k=self.k,
                target=self.target,
                measured=round_down(measured),
                queries=len(queries.rows),
                method=METHOD,
                curve=tuple(trial.to_point() for trial in pareto(trials)),
                trials=tuple(trial.to_point() for trial in sorted(trials, key=lambda trial: trial.recall)),
            ),
            latency=latency,
            shards=tuple(
                ShardEntry(shard_name(number), stop - start) for number, (start, stop) in enumerate(self.plan.spans())
            ),
            memory_bytes=self._memory_bytes(),
        )

    def _memory_bytes(self) -> int:
        mapped = {CODES_FILE}
        kept = [path for path in self.folder.rglob("*.npy") if path.name not in mapped]
        kept += list(self.folder.rglob("*.pb"))
        return sum(path.stat().st_size for path in kept)


def _half(truth: Truth, which: int) -> Truth:
    """The truth of one half of the queries, as `Queries.every_other` halves them."""
    return truth[0][which::2], truth[1][which::2]
