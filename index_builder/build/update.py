"""Building trees with the settings of a version that is there already, where they hold, or else choosing all anew.

ScaNN 1.3.4 can put rows into a tree and take them out, and does it well: with 1% and 10% of 100,000 x 2,048-d vectors
changed (half replaced, a quarter added, a quarter removed), 25 to 48 microseconds a row, nothing pickled, right after
saving and loading, and recall@10 0.957 and 0.961 where a tree trained anew has 0.957 and 0.959. It is not used, as
there is little for it to save: on two cores, with other work beside, a whole build took 74 and 103 s, one with the
settings before 27 and 15 s. Of these 17 and 9 s are the exact search that recall is measured against and 3 and 2 s
reading, both of which an upserted version needs too; 4 and 2 s are training, all that it would be spared. In return its
row numbers would no longer be those of its snapshot (the last row takes a deleted one's place), and its centres would
never move.
`python -m benchmarks.index_update` measures all three again.
"""

from __future__ import annotations

import dataclasses
import shutil
import time

from index_builder.build.measurement import MeasuredIndex, Stopwatch
from index_builder.build.previous_version import StartAnew, read_previous
from index_builder.build.shard import WORK_FOLDER
from index_builder.build.tree_version import RunShards, TreeVersion
from store.index import version_folder
from store.measured import TreeConfig


def build_trees(version: TreeVersion, start_from: str | None, run_shards: RunShards) -> MeasuredIndex:
    """Builds and measures a version with trees; its config says how it was built.

    Args:
        version: What to build.
        start_from: A version whose projection and settings are tried before others are looked for.
        run_shards: Builds shards.

    Raises:
        UserError: There is no version `start_from`.
        StoreError: Rows cannot be read or files not written.
    """
    if start_from is None:
        return _with_history(version.build(run_shards), "anew")
    try:
        return _with_history(_build_like(version, start_from, run_shards), f"with the settings of {start_from}")
    except StartAnew as reason:
        why = str(reason)
    # Outside of the handler, as the exception would keep the given-up version's trees in memory.
    version.say(f"choosing everything anew: {why}")
    return _with_history(version.build(run_shards), "anew", anew_because=why)


def _build_like(version: TreeVersion, start_from: str, run_shards: RunShards) -> MeasuredIndex:
    """Builds a version with the settings of another.

    Raises:
        StartAnew: They do not fit, or no longer reach the target; none of what was written is left.
    """
    encoder = version.snapshot.manifest.encoder
    previous = read_previous(version.store, start_from, version.plan, encoder, version.k, version.target)
    version.say(f"using the projection and settings of version {start_from}")
    began = time.perf_counter()
    attempt = dataclasses.replace(version, plan=previous.plan(version.plan), watch=Stopwatch())
    built = attempt.build_like(previous, run_shards)
    if built.recall.measured >= version.target:
        version.watch.seconds.update(attempt.watch.seconds)
        return built
    _remove(version, [WORK_FOLDER, *(shard.name for shard in built.shards)])
    version.watch.add("given_up_s", time.perf_counter() - began)
    raise StartAnew(
        f"with the settings of version {start_from} recall@{version.k} is {built.recall.measured:.4f}, "
        f"under the target {version.target}"
    )


def _remove(version: TreeVersion, folders: list[str]) -> None:
    for name in folders:
        shutil.rmtree(version.folder / name, ignore_errors=True)
        version.store.remove_folder(f"{version_folder(version.version)}/{name}")


def _with_history(built: MeasuredIndex, how: str, anew_because: str | None = None) -> MeasuredIndex:
    """The index with how it was built in its config."""
    config = built.config
    if isinstance(config, TreeConfig):
        return dataclasses.replace(built, config=dataclasses.replace(config, built=how, anew_because=anew_because))
    return built
