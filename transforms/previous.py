"""ReadPrevious: what the newest snapshot of the same encoder knows of each picture, its embedding left where it is."""

from __future__ import annotations

import bisect
import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence

import apache_beam as beam
import pyarrow as pa

from store.errors import StoreError
from store.location import Store, as_store_error
from store.parts import PartFile, open_part
from store.snapshot import REJECTED, STALE, SnapshotManifest, snapshot_folder
from transforms.coding import DataclassCoder

_COLUMNS = ["image_id", "item_id", "image_uri", "source_version", "content_sha256", "attributes"]
_BATCH_ROWS = 4096


@dataclasses.dataclass(frozen=True, slots=True)
class PreviousSnapshot:
    """A committed snapshot whose embeddings may be used again.

    Attributes:
        store: Holds it.
        name: The snapshot's.
        catalog: The catalog it was made from.
        parts: Its files of embeddings; a row's `place` is its number counted through them.
        starts: The place of each part's first row.
        stale: Its files of rows that were stale already.
        rejected: Its files of rejected rows.
    """

    store: Store
    name: str
    catalog: str
    parts: tuple[PartFile, ...]
    starts: tuple[int, ...]
    stale: tuple[PartFile, ...]
    rejected: tuple[PartFile, ...]

    @classmethod
    def of(cls, store: Store, manifest: SnapshotManifest) -> PreviousSnapshot:
        """From its manifest."""
        stale, rejected = (
            tuple(file for file in manifest.files if file.path.startswith(kind)) for kind in (STALE, REJECTED)
        )
        parts = manifest.parts
        starts = tuple(itertools.accumulate((part.rows for part in parts), initial=0))[:-1]
        return cls(store, manifest.snapshot, manifest.catalog, parts, starts, stale, rejected)

    @property
    def rows(self) -> int:
        """How many embeddings it has."""
        return self.starts[-1] + self.parts[-1].rows if self.parts else 0

    def part_at(self, place: int) -> int:
        """Number of the part that holds a place."""
        return bisect.bisect_right(self.starts, place) - 1

    def batches(self, file: PartFile, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """Some columns of one of its files.

        Raises:
            StoreError: It cannot be read, or is not what the manifest lists.
        """
        folder = snapshot_folder(self.name)
        full = self.store.full_path(f"{folder}/{file.path}")
        try:
            with as_store_error("read", full), open_part(self.store, folder, file.path) as parquet:
                missing = [name for name in columns if name not in parquet.schema_arrow.names]
                if missing or parquet.metadata.num_rows != file.rows:
                    found = f"no {missing[0]}" if missing else f"{parquet.metadata.num_rows} rows"
                    raise StoreError(f"{full}: expected {file.rows} rows of a snapshot, found {found}")
                yield from parquet.iter_batches(_BATCH_ROWS, columns=columns, use_threads=False)
        except StoreError as error:
            raise StoreError(f"{error}; --full embeds everything anew, whatever the last snapshot has") from error

    def rejected_rows(self) -> Iterator[tuple[str, str, str]]:
        """image_id, image_uri and reason of every rejected row.

        Raises:
            StoreError: A file cannot be read.
        """
        columns = ["image_id", "image_uri", "reason"]
        for file in self.rejected:
            for batch in self.batches(file, columns):
                yield from zip(*(batch[name].to_pylist() for name in columns), strict=True)


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


@dataclasses.dataclass(frozen=True, slots=True)
class StaleMark:
    """A row of the previous snapshot whose picture could not be had, for so many runs in a row."""

    image_id: str
    stale_runs: int


class StaleMarkCoder(DataclassCoder):
    """See DataclassCoder."""

    kind = StaleMark


beam.coders.registry.register_coder(StaleMark, StaleMarkCoder)


class ReadPrevious(beam.PTransform):
    """Reads a previous snapshot's rows, one part at a time and many at once; nothing where there is none.

    Output: PCollection[PreviousRow], none of them marked as stale.
    """

    def __init__(self, previous: PreviousSnapshot | None) -> None:
        super().__init__()
        self._previous = previous

    def expand(self, pbegin: beam.pvalue.PBegin) -> beam.PCollection[PreviousRow]:
        """Parts, then rows."""
        read = beam.FlatMap(_read_part, self._previous).with_output_types(PreviousRow)
        return pbegin | "Parts" >> _Numbers(self._previous.parts if self._previous else ()) | "ReadPart" >> read


class ReadStale(beam.PTransform):
    """Reads which rows of a previous snapshot are stale.

    Output: PCollection[StaleMark].
    """

    def __init__(self, previous: PreviousSnapshot | None) -> None:
        super().__init__()
        self._previous = previous

    def expand(self, pbegin: beam.pvalue.PBegin) -> beam.PCollection[StaleMark]:
        """Files, then marks."""
        read = beam.FlatMap(_read_stale, self._previous).with_output_types(StaleMark)
        return pbegin | "Files" >> _Numbers(self._previous.stale if self._previous else ()) | "ReadMarks" >> read


class _Numbers(beam.PTransform):
    """The numbers of files, shared among workers."""

    def __init__(self, files: Sequence[PartFile]) -> None:
        super().__init__()
        self._count = len(files)

    def expand(self, pbegin: beam.pvalue.PBegin) -> beam.PCollection[int]:
        numbers = beam.Create(range(self._count), reshuffle=False).with_output_types(int)
        return pbegin | "Number" >> numbers | "Share" >> beam.Reshuffle()


def _read_part(number: int, previous: PreviousSnapshot) -> Iterator[PreviousRow]:
    place = previous.starts[number]
    for batch in previous.batches(previous.parts[number], _COLUMNS):
        for row in batch.to_pylist():
            version = row["source_version"] or ""
            description = describe(row["item_id"], row["image_uri"], version, dict(row["attributes"] or ()))
            yield PreviousRow(row["image_id"], row["image_uri"], version, row["content_sha256"], place, description)
            place += 1


def _read_stale(number: int, previous: PreviousSnapshot) -> Iterator[StaleMark]:
    for batch in previous.batches(previous.stale[number], ["image_id", "stale_runs"]):
        for image_id, runs in zip(batch["image_id"].to_pylist(), batch["stale_runs"].to_pylist(), strict=True):
            yield StaleMark(image_id, runs)
