"""An index brought up to date after a small change: built whole, with the settings before, and by ScaNN's own upserts.

python -m benchmarks.index_update [--rows N] [--shares S ...] [--work DIR]

Of the rows that change, half are replaced, a quarter added, a quarter removed. An upsert updates a tree and nothing
else: the vectors that rank candidates again, ids, exact neighbours to measure recall with and the report cost on top
what they cost a build, so its seconds are to be held against the seconds of training.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import hashlib
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from pipelines.processor import choose_blas_kernels

choose_blas_kernels()  # before NumPy is imported

import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

from benchmarks.index_table import machine  # noqa: E402
from benchmarks.vectors import SyntheticCatalog, write_snapshot  # noqa: E402
from index_builder.build.builder import build_version  # noqa: E402
from index_builder.build.exact_neighbours import Queries  # noqa: E402
from index_builder.build.measurement import RECALL_FILE, measure  # noqa: E402
from index_builder.build.request import BuildRequest  # noqa: E402
from index_builder.build.snapshot_rows import SnapshotRows  # noqa: E402
from index_builder.search.engine import CODES_FILE, SCALES_FILE, TREE_FOLDER, Settings, TreeEngine, TreeShard  # noqa: E402
from index_builder.search.searcher import PROJECTION_FILE  # noqa: E402
from index_builder.search.tree import Tree  # noqa: E402
from store.index import IndexManifest, version_folder  # noqa: E402
from store.location import Store  # noqa: E402
from store.measured import TreeConfig  # noqa: E402
from store.parts import PartFile, PartWriter  # noqa: E402
from store.schema import embedding_schema  # noqa: E402
from store.snapshot import Counts, SnapshotManifest, commit, new_name, snapshot_folder  # noqa: E402

_WHOLE, _LIKE, _UPSERT = "whole build", "settings of before", "ScaNN upsert, tree only"


@dataclasses.dataclass(frozen=True, slots=True)
class Changes:
    """Which rows of a snapshot change.

    Attributes:
        replaced: int64[a] rows that get another vector.
        removed: int64[b] rows that go; as many are added.
    """

    replaced: npt.NDArray[np.int64]
    removed: npt.NDArray[np.int64]

    @classmethod
    def draw(cls, rows: int, share: float, seed: int) -> Changes:
        """Draws a share of the rows."""
        chosen = np.random.default_rng(seed).permutation(rows)
        replaced, removed = round(rows * share / 2), round(rows * share / 4)
        return cls(np.sort(chosen[:replaced]), np.sort(chosen[replaced : replaced + removed]))


def write_changed(store: Store, before: SnapshotManifest, changes: Changes, seed: int) -> SnapshotManifest:
    """Writes the snapshot after the changes as an incremental run does: new rows in part-0*, unchanged ones in part-c*.

    Raises:
        StoreError: It could not be written.
    """
    started = datetime.datetime.now(datetime.timezone.utc)
    name = new_name(started)
    gone = np.concatenate([changes.replaced, changes.removed])
    schema = embedding_schema(before.encoder["embedding_dim"], before.encoder["fingerprint"])
    files: list[PartFile] = []
    templates, first = [], 0
    for number, part in enumerate(before.files):
        with store.open(f"{snapshot_folder(before.snapshot)}/{part.path}") as file:
            table = pq.read_table(file)
        here = np.isin(np.arange(first, first + len(table)), gone)
        templates.append(table.filter(here))
        files += _write(store, name, f"part-c{number:04d}.parquet", schema, table.filter(~here))
        first += len(table)
    fresh = _fresh_rows(pa.concat_tables(templates), np.sort(gone), changes, before.encoder["embedding_dim"], seed)
    files = [*_write(store, name, "part-00000.parquet", schema, fresh), *files]
    rows, new = sum(file.rows for file in files), len(fresh)
    manifest = dataclasses.replace(
        before,
        snapshot=name,
        created_at=started.isoformat(timespec="seconds"),
        previous_snapshot=before.snapshot,
        counts=Counts(rows, new, rows - new, 0),
        files=tuple(files),
    )
    commit(store, manifest)
    return manifest


def _write(store: Store, snapshot: str, name: str, schema: pa.Schema, table: pa.Table) -> Iterator[PartFile]:
    writer = PartWriter(store, snapshot_folder(snapshot), name, schema)
    writer.add_table(table.cast(schema))
    part = writer.close()
    if part is not None:
        yield part


def _fresh_rows(
    templates: pa.Table, numbers: npt.NDArray[np.int64], changes: Changes, dimensions: int, seed: int
) -> pa.Table:
    """Rows that take the place of replaced and removed ones: other vectors, and for removed ones other ids."""
    # The same categories and mixing, but items and views of its own.
    catalog = dataclasses.replace(SyntheticCatalog.draw(len(numbers), seed, dimensions), seed=seed + 1)
    vectors = np.concatenate([catalog.chunk(number) for number in catalog.chunks])
    removed = np.isin(numbers, changes.removed)
    ids = [f"{name}-new" if new else name for name, new in zip(templates["image_id"].to_pylist(), removed, strict=True)]
    columns = {
        "image_id": pa.array(ids),
        "content_sha256": pa.array([hashlib.sha256(f"{name} {seed}".encode()).hexdigest() for name in ids]),
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dimensions),
    }
    for name, values in columns.items():
        templates = templates.set_column(templates.schema.get_field_index(name), name, values)
    return templates


def upsert(store: Store, before: IndexManifest, after: IndexManifest) -> tuple[float, float]:
    """Seconds to update the tree of one version to the rows of another and save it, and the recall it has then.

    New rows are put in their old places or at the end; a deleted row's place is taken by the last row, so that row
    numbers no longer follow the snapshot.
    """
    old, new = (Path(store.uri, version_folder(manifest.version)) for manifest in (before, after))
    shard = before.shards[0].name
    projection = np.load(old / PROJECTION_FILE)
    tree = Tree.load(old / shard / TREE_FOLDER, before.vectors)
    scann = tree._searcher.searcher
    ids = _image_ids(store, before.snapshot)
    now = _image_ids(store, after.snapshot)
    place, row_now = ({name: row for row, name in enumerate(names)} for names in (ids, now))
    rows = SnapshotRows.open(store, after.snapshot)
    fresh = np.arange(rows.manifest.counts.embedded)  # part-0* comes first
    vectors = rows.vectors(fresh)
    gone = sorted((place[name] for name in place.keys() - row_now.keys()), reverse=True)
    places = [place.get(now[row]) for row in fresh]
    began = time.perf_counter()
    scann.upsert(places, vectors @ projection, 1)
    scann.delete(gone)
    tree.save(new / "upserted")
    spent_s = time.perf_counter() - began
    ids += [now[row] for row, where in zip(fresh, places, strict=True) if where is None]
    for row in gone:
        ids[row] = ids[-1]
        ids.pop()
    order = np.array([row_now[name] for name in ids])
    recall = _recall_of(Tree.load(new / "upserted", len(ids)), order, projection, before, new / shard, rows)
    return spent_s, recall


def _recall_of(
    tree: Tree,
    order: npt.NDArray[np.int64],
    projection: npt.NDArray[np.float32],
    searched_as: IndexManifest,
    shard: Path,
    rows: SnapshotRows,
) -> float:
    """Recall of a tree whose row i is row order[i] of the snapshot, over a version's own queries."""
    config = searched_as.config
    assert isinstance(config, TreeConfig)
    codes, scales = np.load(shard / CODES_FILE)[order], np.load(shard / SCALES_FILE)[order]
    engine = TreeEngine([TreeShard(tree, config.leaves, codes, scales)], projection, Settings.of(config))
    table = pq.read_table(shard.parent / RECALL_FILE)
    asked = table["query_row"].to_numpy()
    truth = np.array(table["neighbour_rows"].to_pylist(), np.int64)
    scores = np.array(table["neighbour_scores"].to_pylist(), np.float32)
    place = np.argsort(order)
    return measure(engine, Queries(place[asked], rows.vectors(asked)), (place[truth], scores), config.k)


def _image_ids(store: Store, snapshot: str) -> list[str]:
    rows = SnapshotRows.open(store, snapshot)
    return [name for batch in rows.batches(0, rows.rows) for name in batch.rows["image_id"].to_pylist()]


def _line(share: str, way: str, seconds: float, ratio: str, train: str, truth: str, recall: float) -> str:
    return f"{share:>8} {way:<24} {seconds:8.1f} {ratio:>7} {train:>8} {truth:>8} {recall:8.4f}"


def _line_of(share: str, way: str, manifest: IndexManifest, whole_s: float) -> str:
    timing = manifest.timing
    train = sum(spent for part, spent in timing.items() if part.startswith("train"))
    ratio = f"{timing['seconds'] / whole_s:.2f}"
    measured = manifest.recall.measured
    return _line(share, way, timing["seconds"], ratio, f"{train:.1f}", f"{timing['truth_s']:.1f}", measured)


def compare(store: Store, rows: int, shares: list[float], seed: int) -> Iterator[str]:
    """The table's lines, as they are measured.

    Raises:
        StoreError: Something could not be written.
    """
    snapshot = write_snapshot(store, rows, seed)
    first = build_version(store, BuildRequest(snapshot=snapshot.snapshot), _say)
    yield f"{rows:,} vectors, recall@10; seconds of a build without its report"
    yield f"{'changed':>8} {'':<24} {'seconds':>8} {'ratio':>7} {'training':>8} {'truth':>8} {'recall':>8}"
    yield _line_of("", _WHOLE, first, first.timing["seconds"])
    for share in shares:
        changes = Changes.draw(rows, share, seed)
        changed = write_changed(store, snapshot, changes, seed)
        whole = build_version(store, BuildRequest(snapshot=changed.snapshot), _say)
        whole_s = whole.timing["seconds"]
        request = BuildRequest(snapshot=changed.snapshot, start_from=first.version)
        like = build_version(store, request, _say)
        yield _line_of(f"{share:.0%}", _WHOLE, whole, whole_s)
        yield _line_of(f"{share:.0%}", _LIKE if like.config.built != "anew" else "anew after all", like, whole_s)
        if len(first.shards) == len(like.shards) == 1 and isinstance(first.config, TreeConfig):
            spent_s, recall = upsert(store, first, like)
            yield _line(f"{share:.0%}", _UPSERT, spent_s, "", f"{spent_s:.1f}", "", recall)


def _say(line: str) -> None:
    sys.stderr.write(f"  {line}\n")


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.01, 0.1], help="of the rows that change")
    parser.add_argument("--work", default="build/bench-update", help="working folder; about 4 GB for 100,000 rows")
    parser.add_argument("--seed", type=int, default=0, help="of the vectors and of what changes")
    flags = parser.parse_args()
    shutil.rmtree(Path(flags.work, "store"), ignore_errors=True)
    print(machine())
    for line in compare(Store(str(Path(flags.work, "store"))), flags.rows, flags.shares, flags.seed):
        print(line, flush=True)
    shutil.rmtree(Path(flags.work, "store"))


if __name__ == "__main__":
    main()
