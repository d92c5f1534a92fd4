"""Starting a build from a version that is there already: what can be taken over from it, and whether it may be.

Its projection, leaves and near settings are; its trees are not: every row is read and every tree trained again. What is
saved is the choosing, which is most of a build.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from index_builder.build.plan import Plan
from index_builder.build.tuning import Trial, pareto
from index_builder.search.engine import Settings
from index_builder.search.searcher import PROJECTION_FILE
from index_builder.search.tree import LEAST_ROWS_PER_LEAF
from store.errors import StoreError
from store.index import IndexManifest, read_index_manifest, version_folder
from store.inner_paths import locate
from store.location import Store
from store.measured import ExactConfig, TreeConfig

Float32 = npt.NDArray[np.float32]

_MOST_LEAVES_OFF = 1.5
_CHEAPER_TRIALS, _DEARER_TRIALS = 2, 3


class StartAnew(Exception):
    """A version cannot be started from; the message says why."""


@dataclasses.dataclass(frozen=True)
class Previous:
    """What a build takes over.

    Attributes:
        version: Where from.
        projection: float32[D, d].
        leaves: Of a shard's tree.
        trials: The settings that it is searched with, and those that were a little faster or better when it was built.
    """

    version: str
    projection: Float32
    leaves: int
    trials: tuple[Trial, ...]

    @property
    def dimensions(self) -> int:
        """d, of the projection."""
        return int(self.projection.shape[1])

    def plan(self, plan: Plan) -> Plan:
        """The plan of a build that takes this over; its memory is at most what was planned."""
        return dataclasses.replace(plan, dimensions=(self.dimensions,), leaves=self.leaves)


def read_previous(store: Store, version: str, plan: Plan, encoder: dict[str, Any], k: int, target: float) -> Previous:
    """Reads what a build is to take over from a version with trees.

    Args:
        store: Holds the version.
        version: Its name.
        plan: Of the build, made as if there were no version to start from.
        encoder: Of the snapshot, as its manifest has it.
        k: Neighbours that recall is measured over.
        target: Recall to reach.

    Raises:
        UserError: There is no such version.
        StartAnew: It is damaged, or made for another encoder, kind, target or size.
    """
    try:
        manifest = read_index_manifest(store, version)
        config = check_comparable(manifest, plan, encoder, k, target)
        return Previous(
            version, _read_projection(store, manifest, config), config.leaves, near_trials(manifest, config)
        )
    except StoreError as error:
        raise StartAnew(str(error)) from error
    except (KeyError, TypeError) as error:
        raise StartAnew(f"version {version} does not say how it was built: {error!r}") from error


def check_comparable(manifest: IndexManifest, plan: Plan, encoder: dict[str, Any], k: int, target: float) -> TreeConfig:
    """How a version is searched whose settings are worth trying on what is to be built.

    Raises:
        StartAnew: They were chosen for something else.
    """
    config, recall = manifest.config, manifest.recall
    pairs = {
        "encoder": (str(manifest.encoder["fingerprint"])[:12], str(encoder["fingerprint"])[:12]),
        "kind": (config.kind, plan.kind),
        "k": (recall.k, k),
        "target": (recall.target, target),
    }
    for name, (before, now) in pairs.items():
        if before != now:
            raise StartAnew(f"version {manifest.version} is of {name} {before}, this one is of {name} {now}")
    if isinstance(config, ExactConfig):
        raise StartAnew(f"version {manifest.version} compares every vector: it has no settings")
    if not manifest.meets_target:
        raise StartAnew(f"version {manifest.version} did not reach its own target")
    if config.dimensions not in plan.dimensions:
        raise StartAnew(f"{config.dimensions} projected dimensions are not among {plan.dimensions}")
    _check_shape(config.shards, config.leaves, plan)
    return config


def _check_shape(shards: int, leaves: int, plan: Plan) -> None:
    if shards != plan.shards:
        raise StartAnew(f"its {shards} shards have become {plan.shards}, by rows and memory")
    off = max(leaves / plan.leaves, plan.leaves / leaves)
    if off > _MOST_LEAVES_OFF or plan.rows // plan.shards < LEAST_ROWS_PER_LEAF * leaves:
        raise StartAnew(f"its shards have {leaves} leaves, and {plan.leaves} suit {plan.shard_rows:,} rows")


def near_trials(manifest: IndexManifest, config: TreeConfig) -> tuple[Trial, ...]:
    """The settings of a version with trees, and its next faster and next better ones, in order of latency.

    All of its own dimension, none beaten by another in both recall and latency, but for its own settings.
    """
    try:
        trials = [Trial.from_point(point, config.k) for point in manifest.recall.trials or ()]
    except ValueError as error:
        raise StartAnew(f"version {manifest.version} does not say what it tried: {error}") from error
    own = [trial for trial in trials if trial.dimensions == config.dimensions]
    chosen = [trial for trial in own if trial.settings == Settings.of(config)]
    if not chosen:
        raise StartAnew(f"version {manifest.version} does not list its own settings among those it tried")
    front = sorted({*pareto(own), chosen[0]}, key=lambda trial: trial.latency_ms)
    at = front.index(chosen[0])
    return tuple(front[max(0, at - _CHEAPER_TRIALS) : at + _DEARER_TRIALS + 1])


def _read_projection(store: Store, manifest: IndexManifest, config: TreeConfig) -> Float32:
    path = locate(store, version_folder(manifest.version), PROJECTION_FILE)
    listed = [file.sha256 for file in manifest.files if file.path == PROJECTION_FILE]
    try:
        data = store.read(path)
    except FileNotFoundError as error:
        raise StartAnew(f"{store.full_path(path)}: found none") from error
    if listed != [hashlib.sha256(data).hexdigest()]:
        raise StartAnew(f"{store.full_path(path)}: it was changed or damaged")
    projection: Float32 = np.load(io.BytesIO(data), allow_pickle=False)
    expected = (int(manifest.encoder["embedding_dim"]), config.dimensions)
    if projection.shape != expected or not math.isfinite(float(projection.sum())):
        raise StartAnew(f"{store.full_path(path)}: expected a finite array of {expected}, found {projection.shape}")
    return projection
