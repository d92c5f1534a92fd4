"""What a piece of a run adds to the manifest: counts, files, reasons."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
from collections.abc import Iterable, Mapping

from store.parts import PartFile

WORK = ("fetched", "encoded", "unchanged", "same_content", "stale", "altered", "added", "gone")
"""The counts in a manifest's `work`, see `store.snapshot.SnapshotManifest`."""


@dataclasses.dataclass(frozen=True, slots=True)
class RunCounts:
    """Sums over a part of the catalog.

    Attributes:
        embedded: Rows with an embedding made now.
        reused: Rows with one of the previous snapshot.
        rejected_by_reason: Reason to number of rows.
        work: See WORK.
        files: Finished files, none of them empty.
        copied: Reused rows that are in files.
        rejects_digest: Sum of digests of the rejected rows, see `reject_digest`.
        fingerprints: Of the encoders at work.
    """

    embedded: int = 0
    reused: int = 0
    rejected_by_reason: Mapping[str, int] = dataclasses.field(default_factory=dict)
    work: Mapping[str, int] = dataclasses.field(default_factory=dict)
    files: tuple[PartFile, ...] = ()
    copied: int = 0
    rejects_digest: int = 0
    fingerprints: tuple[str, ...] = ()

    @property
    def rejected(self) -> int:
        """Rejected rows."""
        return sum(self.rejected_by_reason.values())

    @property
    def rows(self) -> int:
        """Catalog rows that have ended."""
        return self.embedded + self.reused + self.rejected

    def changes(self, previous_rejects_digest: int) -> bool:
        """Whether a snapshot of this would say anything else than the previous one, whose rejected rows are given."""
        touched = self.embedded + self.work.get("altered", 0) + self.work.get("gone", 0)
        return bool(touched) or self.rejects_digest != previous_rejects_digest


def add_up(tallies: Iterable[RunCounts]) -> RunCounts:
    """The sum of all."""
    tallies = list(tallies)
    reasons: collections.Counter[str] = collections.Counter()
    work: collections.Counter[str] = collections.Counter()
    for tally in tallies:
        reasons.update(tally.rejected_by_reason)
        work.update(tally.work)
    return RunCounts(
        embedded=sum(tally.embedded for tally in tallies),
        reused=sum(tally.reused for tally in tallies),
        rejected_by_reason=dict(sorted(reasons.items())),
        work={name: work[name] for name in WORK},
        files=tuple(sorted((file for tally in tallies for file in tally.files), key=lambda file: file.path)),
        copied=sum(tally.copied for tally in tallies),
        rejects_digest=sum(tally.rejects_digest for tally in tallies) % _MODULUS,
        fingerprints=tuple(sorted({name for tally in tallies for name in tally.fingerprints})),
    )


_MODULUS = 1 << 64


def reject_digest(image_id: str, image_uri: str, reason: str) -> int:
    """A number for a rejected row; the sum of many (modulo 2**64) does not depend on their order."""
    said = "\0".join((image_id, image_uri, reason)).encode()
    return int.from_bytes(hashlib.blake2b(said, digest_size=8).digest(), "big")
