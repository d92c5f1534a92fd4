"""ReadPrevious: what the newest snapshot of the same encoder knows of each picture, its embedding left where it is."""

from __future__ import annotations

import bisect
import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq

from store.errors import StoreError
from store.location import Store, as_store_error
from store.parts import PartFile
from store.snapshot import STALE, SnapshotManifest, snapshot_folder
from transforms.coding import DataclassCoder

_COLUMNS = ["image_id", "item_id", "image_uri", "source_version", "content_sha256", "attributes"]
_BATCH_ROWS = 4096


@dataclasses.dataclass(frozen=True, slots=True)
class PreviousSnapshot:
    """A committed snapshot whose embeddings may be used again.

    Attributes:
        store: Holds it.
        name: The snapshot's.
        catalog: The catalog it was made from, as the user gave it.
        parts: Its files of embeddings; a row's `place` is its number counted through them.
        stale: Its files of rows that were stale already.
        rejected: Its files of rejected rows.
    """

    store: Store
    name: str
    catalog: str
    parts: tuple[PartFile, ...]
    stale: tuple[PartFile, ...]
    rejected: tuple[PartFile, ...]

    @classmethod
    def of(cls, store: Store, manifest: SnapshotManifest) -> PreviousSnapshot:
        """From its manifest."""
        others = [file for file in manifest.files if file not in manifest.parts]
        stale = tuple(file for file in others if file.path.startswith(STALE))
        rejected = tuple(file for file in others if file not in stale)
        return cls(store, manifest.snapshot, manifest.catalog, manifest.parts, stale, rejected)

    @property
    def rows(self) -> int:
        """How many embeddings it has."""
        return sum(part.rows for part in self.parts)

    def starts(self) -> list[int]:
        """The place of each part's first row."""
        return [0, *itertools.accumulate(part.rows for part in self.parts)][:-1]

    def part_at(self, place: int) -> int:
        """Number of the part that holds a place."""
        return bisect.bisect_right(self.starts(), place) - 1

    def open(self, file: PartFile) -> pq.ParquetFile:
        """Opens one of its files.

        Raises:
            StoreError: It is missing or no Parquet.
        """
        path = f"{snapshot_folder(self.name)}/{file.path}"
        try:
            return pq.ParquetFile(self.store.open(path), pre_buffer=False)
        except (FileNotFoundError, pa.ArrowInvalid) as error:
            raise StoreError(f"{self.store.full_path(path)}: expected what the manifest lists: {error}") from error

    def batches(self, file: PartFile, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """Some columns of one of its files.

        Raises:
            StoreError: It cannot be read.
        """
        with as_store_error("read", self.store.full_path(f"{snapshot_folder(self.name)}/{file.path}")):
            yield from self.open(file).iter_batches(_BATCH_ROWS, columns=columns, use_threads=False)


@dataclasses.dataclass(frozen=True, slots=True)
class PreviousRow:
    """A row of the previous snapshot.

    Attributes:
        image_id: As in the catalog then.
        image_uri: As in the catalog then.
        source_version: Of the picture that was embedded; "" where nobody can tell.
        content_sha256: Hex, of its bytes.
        place: Row number, counted through the snapshot's parts.
        description: `describe` of the row.
        stale_runs: For how many runs in a row its picture could not be had.
    """

    image_id: str
    image_uri: str
    source_version: str
    content_sha256: str
    place: int
    description: str
    stale_runs: int = 0


class PreviousRowCoder(DataclassCoder):
    """See DataclassCoder."""

    kind = PreviousRow


beam.coders.registry.register_coder(PreviousRow, PreviousRowCoder)


def describe(item_id: str, image_uri: str, source_version: str, attributes: Mapping[str, str]) -> str:
    """A digest of what a snapshot says of a picture apart from its embedding: 32 hex digits."""
    said = json.dumps([item_id, image_uri, source_version, sorted(attributes.items())], ensure_ascii=False)
    return hashlib.blake2b(said.encode(), digest_size=16).hexdigest()


class ReadPrevious(beam.PTransform):
    """Reads a previous snapshot, one part at a time and many at once; nothing where there is none.

    Output: PCollection[PreviousRow].
    """

    def __init__(self, previous: PreviousSnapshot | None) -> None:
        super().__init__()
        self._previous = previous

    def expand(self, pbegin: beam.pvalue.PBegin) -> beam.PCollection[PreviousRow]:
        """Parts, then rows."""
        count = len(self._previous.parts) if self._previous else 0
        return (
            pbegin
            | "PreviousParts" >> beam.Create(range(count), reshuffle=False).with_output_types(int)
            | "ShareParts" >> beam.Reshuffle()
            | "ReadPart" >> beam.FlatMap(_read_part, self._previous).with_output_types(PreviousRow)
        )


def _read_part(number: int, previous: PreviousSnapshot) -> Iterator[PreviousRow]:
    place = previous.starts()[number]
    stale = stale_runs(previous)
    for batch in previous.batches(previous.parts[number], _COLUMNS):
        for row in batch.to_pylist():
            description = describe(
                row["item_id"], row["image_uri"], row["source_version"] or "", dict(row["attributes"] or ())
            )
            yield PreviousRow(
                image_id=row["image_id"],
                image_uri=row["image_uri"],
                source_version=row["source_version"] or "",
                content_sha256=row["content_sha256"],
                place=place,
                description=description,
                stale_runs=stale.get(row["image_id"], 0),
            )
            place += 1


def stale_runs(previous: PreviousSnapshot) -> dict[str, int]:
    """image_id -> for how many runs it has been stale: the stale rows alone, which are few unless a host is down."""
    found: dict[str, int] = {}
    for file in previous.stale:
        for batch in previous.batches(file, ["image_id", "stale_runs"]):
            found.update(zip(batch["image_id"].to_pylist(), batch["stale_runs"].to_pylist(), strict=True))
    return found
