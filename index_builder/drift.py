"""How far a new version moved from the published one: rows that left, and neighbours that are others now."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from index_builder.rows import ROWS_FILE
from index_builder.searcher import Searcher
from index_builder.snapshot_rows import SnapshotRows
from index_builder.truth import TIES
from index_builder.version_files import open_version
from store.errors import StoreError, UserError
from store.index import IndexManifest, read_index_manifest
from store.location import Store, as_store_error
from store.parts import open_part
from store.snapshot import read_manifest, snapshot_folder

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

TIE = 1e-6
"""Scores this close are the same: copies of one picture, multiplied in another order."""

_BLOCK_IDS = 16_000_000
"""Ids hashed at a time, some 1.3 GB; a catalog of n blocks is passed over n times."""

_FIRST_DRAW, _NEXT_DRAW, _MOST_DRAWN = 2, 8, 64
"""Candidates per probe wanted, in the first draw, then this many times as many, at most so many."""

_READERS = 8

_ALL_TIE = f"each probe has more than {TIES} neighbours that tie: copies cannot be told apart"


@dataclasses.dataclass(frozen=True, slots=True)
class Drift:
    """What changed from one version to another.

    Attributes:
        before: The older version.
        after: The newer.
        vectors_before: Pictures in the older.
        vectors_after: Pictures in the newer.
        shrink: Share of rows lost, max(0, 1 - vectors_after / vectors_before).
        gone: image_ids that only the older has.
        added: image_ids that only the newer has.
        probes: Unchanged pictures whose neighbours were compared.
        overlap: Mean overlap@k of the probes' neighbours, from 0 to 1; None without probes.
        k: Neighbours compared.
        note: Why there is no overlap; "" where there is one.
        trivial: There is none because nothing could have moved: a version of one picture, or of copies of one.
    """

    before: str
    after: str
    vectors_before: int
    vectors_after: int
    shrink: float
    gone: int
    added: int
    probes: int
    overlap: float | None
    k: int
    note: str = ""
    trivial: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class _Neighbours:
    """A probe's neighbours in one version.

    Attributes:
        image_ids: At least k of them where there are as many, the best first, the probe itself left out.
        scores: float32[len(image_ids)] cosines.
        complete: Whether nothing that was not looked at could tie with the k-th.
    """

    image_ids: list[str]
    scores: Float32
    complete: bool


class _Side:
    """One of the two versions. Its ids stay on disk, memory-mapped; row numbers are those of its snapshot."""

    def __init__(self, store: Store, version: str) -> None:
        self.manifest: IndexManifest = read_index_manifest(store, version)
        self._folder = open_version(store, self.manifest)
        self._store = store
        paths = [self._folder / shard["name"] / ROWS_FILE for shard in self.manifest.shards]
        tables = [pa.ipc.open_file(pa.memory_map(str(path))).read_all() for path in paths]
        self._ids = [chunk for table in tables for chunk in table["image_id"].chunks if len(chunk)]
        self._starts = np.cumsum([0, *map(len, self._ids)])

    def blocks(self) -> Iterator[tuple[int, pa.Array]]:
        """All image_ids, at most _BLOCK_IDS at a time, each block with the number of its first row."""
        for chunk, start in zip(self._ids, self._starts, strict=False):
            for offset in range(0, len(chunk), _BLOCK_IDS):
                yield int(start) + offset, chunk.slice(offset, _BLOCK_IDS)

    def count_of(self, image_ids: pa.Array) -> int:
        """How many of some image_ids it has."""
        return pc.sum(pc.is_in(pa.chunked_array(self._ids, pa.string()), value_set=image_ids)).as_py() or 0

    def ids(self, rows: Int64) -> pa.Array:
        """The image_ids of rows, given in rising order."""
        bounds = np.searchsorted(rows, self._starts)
        pieces = zip(self._ids, self._starts, bounds[:-1], bounds[1:], strict=False)
        return pa.concat_arrays(
            [pa.array([], pa.string()), *(chunk.take(pa.array(rows[a:b] - start)) for chunk, start, a, b in pieces)]
        )

    def find(self, image_ids: pa.Array) -> Int64:
        """The row number of each image_id, -1 where it has none."""
        rows = np.full(len(image_ids), -1, np.int64)
        for start, block in self.blocks():
            found = pc.index_in(block, value_set=image_ids)
            here = np.flatnonzero(found.is_valid().to_numpy(zero_copy_only=False))
            rows[found.drop_null().to_numpy()] = start + here
        return rows

    def digests(self, rows: Int64) -> list[str]:
        """content_sha256 of rows, given in any order, from the snapshot; reads only their row groups.

        Raises:
            UserError: The snapshot was pruned.
            StoreError: It cannot be read, or does not hold what the version is made of.
        """
        snapshot = read_manifest(self._store, self.manifest.snapshot)
        order = np.argsort(rows)
        rising = rows[order]
        starts = np.cumsum([0, *(part.rows for part in snapshot.parts)])
        bounds = np.searchsorted(rising, starts)
        wanted = [
            (snapshot_folder(snapshot.snapshot), part.path, rising[a:b] - start)
            for part, start, a, b in zip(snapshot.parts, starts, bounds[:-1], bounds[1:], strict=False)
            if a < b
        ]
        with ThreadPoolExecutor(_READERS) as pool:
            read = pa.concat_tables(pool.map(lambda part: _read_identity(self._store, *part), wanted))
        if not read["image_id"].combine_chunks().equals(self.ids(rising)):
            raise StoreError(
                f"version {self.manifest.version}: expected the rows of snapshot {snapshot.snapshot} in their order, "
                "found others; build the index again"
            )
        digests = np.empty(len(rows), object)
        digests[order] = read["content_sha256"].to_pylist()
        return list(digests)

    def neighbours(self, rows: Int64, k: int) -> list[_Neighbours]:
        """Each row's neighbours, found as a reader would with the embedding that the snapshot holds.

        Asks for more than k, as much as tells ties apart.
        """
        searcher = Searcher.from_folder(self.manifest, self._folder)
        order = np.argsort(rows)
        vectors = SnapshotRows.open(self._store, self.manifest.snapshot).vectors(rows[order])
        depth = k + TIES
        found = searcher.search(vectors[np.argsort(order)], depth + 1)
        answers = []
        for own, near, cosines in zip(rows, found.rows, found.scores, strict=True):
            others = np.flatnonzero((near >= 0) & (near != own))[:depth]
            scores = cosines[others]
            complete = len(others) < depth or bool(scores[-1] < scores[k - 1] - TIE)
            answers.append(_Neighbours([searcher.rows.image_id(row) for row in near[others]], scores, complete))
        return answers


def _read_identity(store: Store, folder: str, file: str, rows: Int64) -> pa.Table:
    """image_id and content_sha256 of rows of one part, given by rising numbers within it."""
    columns = ["image_id", "content_sha256"]
    full = store.full_path(f"{folder}/{file}")
    with as_store_error("read", full), open_part(store, folder, file) as parquet:
        meta = parquet.metadata
        starts = np.cumsum([0, *(meta.row_group(number).num_rows for number in range(meta.num_row_groups))])
        bounds = np.searchsorted(rows, starts)
        return pa.concat_tables(
            parquet.read_row_group(number, columns, use_threads=False).take(pa.array(rows[a:b] - starts[number]))
            for number, (a, b) in enumerate(itertools.pairwise(bounds))
            if a < b
        )


def measure_drift(store: Store, before: str, after: str, *, probes: int = 200, k: int = 10, seed: int = 0) -> Drift:
    """Compares two versions: their image_ids, and the neighbours of pictures that both hold with the same content.

    Each probe is searched in each version with the embedding that the version's own snapshot holds for it, so that
    versions of two encoders can be compared. Of neighbours that tie with the k-th (copies of one picture) any is as
    good as another; a probe with more of them than a search looks through is left out. Searches are those of a reader,
    approximate where the version is: two versions of one snapshot, each at a recall of 0.95, overlap in somewhat less
    than 1.

    In memory are, beside the opened versions, some 1.3 GB of hashed ids at most, less for fewer than 16,000,000
    pictures; ids are compared whole, their hashes only find them.

    Args:
        store: Holds both versions.
        before: Name of the older, as a rule the published one.
        after: Name of the newer.
        probes: Pictures to compare the neighbours of; fewer are found where few are unchanged.
        k: Neighbours of each.
        seed: Of the draw.

    Raises:
        UserError: There is no such version.
        StoreError: A version or its snapshot is damaged.
    """
    old, new = _Side(store, before), _Side(store, after)
    common = sum(old.count_of(block) for _, block in new.blocks())
    vectors_before, vectors_after = old.manifest.vectors, new.manifest.vectors
    trivial = min(vectors_before, vectors_after) < 2
    if trivial:
        used, overlap, note = 0, None, "a version of one picture has no neighbours"
    elif not common:
        used, overlap, note = 0, None, "no picture is in both versions"
    else:
        used, overlap, note = _overlap(old, new, probes, k, seed)
    return Drift(
        before=before,
        after=after,
        vectors_before=vectors_before,
        vectors_after=vectors_after,
        shrink=max(0.0, 1 - vectors_after / vectors_before),
        gone=vectors_before - common,
        added=vectors_after - common,
        probes=used,
        overlap=overlap,
        k=k,
        note=note,
        trivial=trivial or note == _ALL_TIE,
    )


def _overlap(old: _Side, new: _Side, probes: int, k: int, seed: int) -> tuple[int, float | None, str]:
    """How many probes were compared, their mean overlap, and why there is none."""
    try:
        old_rows, new_rows = _draw_probes(old, new, probes, seed)
        before = old.neighbours(old_rows, k)
    except UserError as error:
        return 0, None, f"{error}: it was pruned, unchanged pictures cannot be told"
    except StoreError as error:  # the new version's snapshot was read to its end a moment ago
        return 0, None, f"the snapshot of {old.manifest.version} is damaged: {error}"
    if not len(new_rows):
        return 0, None, "no picture drawn is unchanged"
    pairs = zip(before, new.neighbours(new_rows, k), strict=True)
    shares = [_shared(one, other, k) for one, other in pairs if one.complete and other.complete]
    if not shares:
        return 0, None, _ALL_TIE
    return len(shares), float(np.mean(shares)), ""


def _draw_probes(old: _Side, new: _Side, probes: int, seed: int) -> tuple[Int64, Int64]:
    """Random rows of pictures with the same content in both versions: int64[m] in the older, in the newer.

    One pass over the older's ids finds all candidates; digests are read of as few as are needed.
    """
    generator = np.random.default_rng(seed)
    count = min(new.manifest.vectors, _MOST_DRAWN * probes)
    new_rows = np.sort(generator.choice(new.manifest.vectors, count, replace=False))
    old_rows = old.find(new.ids(new_rows))
    shuffled = generator.permutation(np.flatnonzero(old_rows >= 0))
    unchanged = np.zeros(0, np.int64)
    size, start = _FIRST_DRAW * probes, 0
    while start < len(shuffled) and len(unchanged) < probes:
        drawn = shuffled[start : start + size]
        pairs = zip(old.digests(old_rows[drawn]), new.digests(new_rows[drawn]), strict=True)
        unchanged = np.append(unchanged, drawn[[one == other for one, other in pairs]])
        start, size = start + size, size * _NEXT_DRAW
    unchanged = unchanged[:probes]
    return old_rows[unchanged], new_rows[unchanged]


def _shared(one: _Neighbours, other: _Neighbours, k: int) -> float:
    """|A ∩ B| / min(k, size of the smaller answer), ties at the k-th place broken as suits the overlap best."""
    (sure_one, tied_one, free_one), (sure_other, tied_other, free_other) = _split(one, k), _split(other, k)
    from_other = min(len(sure_one & tied_other), free_other)
    from_one = min(len(sure_other & tied_one), free_one)
    from_both = min(len(tied_one & tied_other), free_one - from_one, free_other - from_other)
    shared = len(sure_one & sure_other) + from_other + from_one + from_both
    return shared / min(k, len(one.image_ids), len(other.image_ids))


def _split(neighbours: _Neighbours, k: int) -> tuple[set[str], set[str], int]:
    """What is among the k best for sure, what ties for their last places, and how many those are."""
    last = min(k, len(neighbours.image_ids)) - 1
    scores, ids = neighbours.scores, neighbours.image_ids
    sure = {name for name, score in zip(ids, scores, strict=True) if score > scores[last] + TIE}
    tied = {name for name, score in zip(ids, scores, strict=True) if abs(score - scores[last]) <= TIE}
    return sure, tied, last + 1 - len(sure)
