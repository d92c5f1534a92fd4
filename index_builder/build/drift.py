"""How far a new version moved from the published one: rows that left, and neighbours that are others now."""

from __future__ import annotations

import dataclasses

import numpy as np

from index_builder.build.compared_version import TIE, ComparedVersion, Int64, Neighbours
from index_builder.build.exact_neighbours import TIES
from store.errors import DamagedError, StoreError, UserError
from store.location import Store

_FIRST_DRAW, _NEXT_DRAW, _MOST_DRAWN = 2, 8, 64
"""Candidates per probe wanted, in the first draw, then this many times as many, at most so many."""

_SAME_EMBEDDING = 0.99
"""Least cosine of a picture's embedding with what an index restores of it, which is off by 0.001 or so."""

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
        note: Why there is no overlap, or what it was measured by where the older snapshot is gone; else "".
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
class _Overlap:
    """The neighbours of probes compared: `probes`, `overlap` (as `share`), `note` and `trivial` of a `Drift`."""

    probes: int = 0
    share: float | None = None
    note: str = ""
    trivial: bool = False


def measure_drift(store: Store, before: str, after: str, *, probes: int = 200, k: int = 10, seed: int = 0) -> Drift:
    """Compares two versions: their image_ids, and the neighbours of pictures that both hold with the same content.

    Each probe is searched in each version with the embedding that the version's own snapshot holds for it, so that
    versions of two encoders can be compared. Of neighbours that tie with the k-th (copies of one picture) any is as
    good as another; a probe with more of them than a search looks through is left out. Searches are those of a reader,
    approximate where the version is: two versions of one snapshot, each at a recall of 0.95, overlap in somewhat less
    than 1. Beside the opened versions, memory holds some 1.3 GB of hashed ids at most, less for fewer than 16,000,000
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
    old, new = ComparedVersion(store, before), ComparedVersion(store, after)
    common = sum(old.count_of(block) for _, block in new.blocks())
    compared = _compare_neighbours(old, new, common, probes, k, seed)
    return Drift(
        before=before,
        after=after,
        vectors_before=old.manifest.vectors,
        vectors_after=new.manifest.vectors,
        shrink=max(0.0, 1 - new.manifest.vectors / old.manifest.vectors),
        gone=old.manifest.vectors - common,
        added=new.manifest.vectors - common,
        probes=compared.probes,
        overlap=compared.share,
        k=k,
        note=compared.note,
        trivial=compared.trivial,
    )


def _compare_neighbours(
    old: ComparedVersion, new: ComparedVersion, common: int, probes: int, k: int, seed: int
) -> _Overlap:
    """The overlap of probes drawn from the `common` pictures, or why there can be none."""
    if min(old.manifest.vectors, new.manifest.vectors) < 2:
        return _Overlap(note="a version of one picture has no neighbours", trivial=True)
    if not common:
        return _Overlap(note="no picture is in both versions")
    return _measure_overlap(old, new, probes, k, seed)


def _measure_overlap(old: ComparedVersion, new: ComparedVersion, probes: int, k: int, seed: int) -> _Overlap:
    note = ""
    try:
        old_rows, new_rows = _draw_probes(old, new, probes, seed)
        before = old.neighbours(old_rows, old.embeddings(old_rows), k)
    except (UserError, DamagedError) as error:  # the new version's snapshot was read to its end a moment ago
        gone = "was pruned" if isinstance(error, UserError) else "is damaged"
        why = f"the snapshot of {old.manifest.version} {gone}: {error}"
        if old.manifest.encoder != new.manifest.encoder:
            return _Overlap(note=f"{why}, and the encoder is another: unchanged pictures cannot be told")
        note = f"{why}; pictures are compared by what the index has of them"
        old_rows, new_rows = _draw_by_embedding(old, new, probes, seed)
        before = old.neighbours(old_rows, old.indexed(old_rows), k)
    except StoreError as error:
        return _Overlap(note=f"the snapshot of {old.manifest.version} is damaged: {error}")
    if not len(new_rows):
        return _Overlap(note="no picture drawn is unchanged")
    after = new.neighbours(new_rows, new.embeddings(new_rows), k)
    pairs = zip(before, after, strict=True)
    shares = [_shared(one, other, k) for one, other in pairs if one.complete and other.complete]
    if not shares:
        return _Overlap(note=_ALL_TIE, trivial=True)
    return _Overlap(len(shares), float(np.mean(shares)), note)


def _draw_by_embedding(old: ComparedVersion, new: ComparedVersion, probes: int, seed: int) -> tuple[Int64, Int64]:
    """As `_draw_probes`, with pictures taken for unchanged whose embedding is: for a version without its snapshot."""
    old_rows, new_rows = _draw_common(old, new, _NEXT_DRAW * probes, seed)
    cosines = np.einsum("nd,nd->n", old.indexed(old_rows), new.embeddings(new_rows))
    unchanged = np.flatnonzero(cosines >= _SAME_EMBEDDING)[:probes]
    return old_rows[unchanged], new_rows[unchanged]


def _draw_common(old: ComparedVersion, new: ComparedVersion, most: int, seed: int) -> tuple[Int64, Int64]:
    """Rows of pictures that both versions have, in random order: int64[m] in the older, in the newer."""
    generator = np.random.default_rng(seed)
    new_rows = np.sort(generator.choice(new.manifest.vectors, min(new.manifest.vectors, most), replace=False))
    old_rows = old.find(new.ids(new_rows))
    shuffled = generator.permutation(np.flatnonzero(old_rows >= 0))
    return old_rows[shuffled], new_rows[shuffled]


def _draw_probes(old: ComparedVersion, new: ComparedVersion, probes: int, seed: int) -> tuple[Int64, Int64]:
    """Random rows of pictures with the same content in both versions: int64[m] in the older, in the newer.

    One pass over the older's ids finds all candidates; digests are read of as few as are needed.
    """
    old_rows, new_rows = _draw_common(old, new, _MOST_DRAWN * probes, seed)
    unchanged = np.zeros(0, np.int64)
    size, start = _FIRST_DRAW * probes, 0
    while start < len(old_rows) and len(unchanged) < probes:
        drawn = np.arange(start, min(start + size, len(old_rows)))
        pairs = zip(old.digests(old_rows[drawn]), new.digests(new_rows[drawn]), strict=True)
        unchanged = np.append(unchanged, drawn[[one == other for one, other in pairs]])
        start, size = start + size, size * _NEXT_DRAW
    unchanged = unchanged[:probes]
    return old_rows[unchanged], new_rows[unchanged]


def _shared(one: Neighbours, other: Neighbours, k: int) -> float:
    """|A ∩ B| / min(k, size of the smaller answer), ties at the k-th place broken as suits the overlap best."""
    (sure_one, tied_one, free_one), (sure_other, tied_other, free_other) = _split(one, k), _split(other, k)
    from_other = min(len(sure_one & tied_other), free_other)
    from_one = min(len(sure_other & tied_one), free_one)
    from_both = min(len(tied_one & tied_other), free_one - from_one, free_other - from_other)
    shared = len(sure_one & sure_other) + from_other + from_one + from_both
    return shared / min(k, len(one.image_ids), len(other.image_ids))


def _split(neighbours: Neighbours, k: int) -> tuple[set[str], set[str], int]:
    """What is among the k best for sure, what ties for their last places, and how many those are."""
    last = min(k, len(neighbours.image_ids)) - 1
    scores, ids = neighbours.scores, neighbours.image_ids
    sure = {name for name, score in zip(ids, scores, strict=True) if score > scores[last] + TIE}
    tied = {name for name, score in zip(ids, scores, strict=True) if abs(score - scores[last]) <= TIE}
    return sure, tied, last + 1 - len(sure)
