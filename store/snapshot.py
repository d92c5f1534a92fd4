"""The manifest that makes a snapshot exist, and the readers that trust nothing else."""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
import secrets
from typing import Any

from store.entries import Entry
from store.errors import DamagedError, StoreError, UserError
from store.inner_paths import locate
from store.listed_files import find_fault
from store.location import Store
from store.parts import PartFile
from store.schema import FORMAT_VERSION

SNAPSHOT_NAME = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{6}", re.ASCII)

MANIFEST = "manifest.json"
REFUSED = "refused.json"
"""Left beside the parts of a snapshot that a gate refused: what the manifest would have counted."""
UNCHANGED = "unchanged.json"
"""Left by a run that found the catalog as the previous snapshot has it and was asked to commit only what differs."""

MAX_STALE_RUNS = 3
"""Runs in a row that an embedding is kept whose picture cannot be had, unless somebody says otherwise.

A weekend's outage is forgiven; what is away for longer is taken for gone."""

PART, REJECTED, STALE = "part-", "rejected-", "stale-"
"""What the names of a snapshot's files begin with."""


def new_name(now: datetime.datetime) -> str:
    """A name that sorts by time: `20261121T031500Z-<6 hex>`, the microsecond in five digits and one by chance.

    Two runs may begin in one second, above all in tests and repairs; readers take the later name for the newer.
    """
    second = f"{now.astimezone(datetime.timezone.utc):%Y%m%dT%H%M%SZ}"
    return f"{second}-{now.microsecond:05x}{secrets.token_hex(1)[0]}"


def check_name(name: object, error: type[Exception] = UserError) -> str:
    """A snapshot's or version's name, safe to build a path from.

    Args:
        name: From a flag or a file.
        error: What a wrong name is: the caller's mistake, or a file's.
    """
    if not isinstance(name, str) or not SNAPSHOT_NAME.fullmatch(name):
        raise error(f"expected a name such as 20261121T031500Z-0a1b2c, found {name!r:.60}")
    return name


def snapshot_folder(snapshot: str) -> str:
    """Where a snapshot lies, relative to its store.

    Raises:
        UserError: It is no snapshot's name.
    """
    return f"embeddings/{check_name(snapshot)}"


def manifest_json(manifest: Any) -> bytes:
    """A manifest, a dataclass with a format_version, as UTF-8 JSON: its fields in order, format_version first."""
    fields = {field.name: getattr(manifest, field.name) for field in dataclasses.fields(manifest)}
    ordered = {"format_version": fields.pop("format_version"), **fields}
    return json.dumps(ordered, indent=2, ensure_ascii=False, default=_plain_object).encode() + b"\n"


def _plain_object(value: Any) -> dict[str, Any]:
    return value.to_dict() if isinstance(value, Entry) else dataclasses.asdict(value)


def known_fields(kind: type, fields: Any) -> dict[str, Any]:
    """Those fields that a dataclass has: a later release may add some without a new format.

    Raises:
        TypeError: There are no fields, but another kind of value.
    """
    if not isinstance(fields, dict):
        raise TypeError(f"expected a JSON object, found {type(fields).__name__}")
    names = {field.name for field in dataclasses.fields(kind)}
    return {name: value for name, value in fields.items() if name in names}


@dataclasses.dataclass(frozen=True, slots=True)
class Counts:
    """How the rows of a catalog ended; catalog_rows = embedded + reused + rejected in every committed snapshot."""

    catalog_rows: int
    embedded: int
    reused: int
    rejected: int

    @property
    def reject_ratio(self) -> float:
        """Rejected rows over catalog rows."""
        return self.rejected / self.catalog_rows if self.catalog_rows else 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class SnapshotManifest:
    """What a snapshot holds and how it was made; the fields of manifest.json in their order.

    `work` counts what the run cost and what it met: pictures `fetched` (their bytes were read) and `encoded` (they went
    through the model); rows reused as `unchanged` (their source version is the same) or `same_content` (other source,
    bytes known), rows that are `stale`, rows `altered` against the previous snapshot, `added` to it and `gone` from it.
    """

    snapshot: str
    created_at: str
    catalog: str
    previous_snapshot: str | None
    encoder: dict[str, Any]
    counts: Counts
    rejected_by_reason: dict[str, int]
    files: tuple[PartFile, ...]
    timing: dict[str, Any]
    versions: dict[str, str]
    work: dict[str, int] = dataclasses.field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def to_json(self) -> bytes:
        """The manifest as UTF-8 JSON, format_version first."""
        return manifest_json(self)

    @property
    def parts(self) -> tuple[PartFile, ...]:
        """The files that hold embeddings; row numbers are counted through them in this order."""
        return tuple(file for file in self.files if file.path.startswith(PART))

    @classmethod
    def from_json(cls, data: bytes) -> SnapshotManifest:
        """Reads a manifest.

        Raises:
            DamagedError: It is cut or no manifest.
            StoreError: It is one of another format than this release reads.
        """
        try:
            fields = json.loads(data)
            if fields["format_version"] != FORMAT_VERSION:
                raise StoreError(
                    f"snapshot format: expected {FORMAT_VERSION}, found {fields['format_version']}; "
                    "use the Shelfmark that wrote it"
                )
            fields["counts"] = Counts(**fields["counts"])
            fields["files"] = tuple(PartFile(**file) for file in fields["files"])
            for name in filter(None, (fields["snapshot"], fields["previous_snapshot"])):
                check_name(name, DamagedError)
            return cls(**known_fields(cls, fields))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DamagedError(f"not a snapshot manifest: {error!r}") from error


def commit(store: Store, manifest: SnapshotManifest) -> None:
    """Makes a snapshot exist: checks that rows add up and files are whole and last, then writes the manifest.

    Whoever wrote the files has synced them; here their names are, before the manifest says that they are there.

    Raises:
        DamagedError: A file is missing or of another size.
        StoreError: Counts do not add up, or the manifest cannot be written.
    """
    check_counts(manifest.counts, manifest.rejected_by_reason, manifest.files)
    check_snapshot_files(store, manifest)
    folder = snapshot_folder(manifest.snapshot)
    store.settle([f"{folder}/{MANIFEST}", *(f"{folder}/{file.path}" for file in manifest.files)])
    store.replace(f"{folder}/{MANIFEST}", manifest.to_json())


def check_snapshot_files(store: Store, manifest: SnapshotManifest) -> None:
    """Compares the sizes of a snapshot's files with its manifest.

    Raises:
        DamagedError: A file is missing or of another size.
        StoreError: The store cannot be read.
    """
    folder = snapshot_folder(manifest.snapshot)
    fault = find_fault(store, folder, {file.path: file.bytes for file in manifest.files})
    if fault:
        raise DamagedError(fault)


def check_counts(counts: Counts, rejected_by_reason: dict[str, int], files: tuple[PartFile, ...]) -> None:
    """Refuses counts that lost a row.

    Raises:
        StoreError: A sum does not hold; the message has both sides.
    """
    ended = counts.embedded + counts.reused + counts.rejected
    if ended != counts.catalog_rows:
        raise StoreError(
            f"expected {counts.catalog_rows} catalog rows to be embedded, reused or rejected, found {ended}"
        )
    if sum(rejected_by_reason.values()) != counts.rejected:
        raise StoreError(
            f"expected {counts.rejected} rejected rows by reason, found {sum(rejected_by_reason.values())}"
        )
    in_files = sum(file.rows for file in files if not file.path.startswith(STALE))
    if in_files != ended:
        raise StoreError(f"expected {ended} rows in files, found {in_files}")


def read_manifest(store: Store, snapshot: str) -> SnapshotManifest:
    """The manifest of a committed snapshot.

    Raises:
        UserError: There is no such snapshot.
        DamagedError: Its manifest is cut or none.
        StoreError: Its manifest cannot be read, or is of another format.
    """
    try:
        folder = snapshot_folder(snapshot)
    except UserError as error:
        raise UserError(f"no snapshot {snapshot} in {store.uri}: {error}") from error
    path = f"{folder}/{MANIFEST}"
    try:
        manifest = SnapshotManifest.from_json(store.read(locate(store, folder, MANIFEST)))
        if manifest.snapshot != snapshot:
            raise DamagedError(f"expected snapshot {snapshot}, found {manifest.snapshot}")
        return manifest
    except FileNotFoundError as error:
        raise UserError(f"no snapshot {snapshot} in {store.uri}") from error
    except StoreError as error:
        raise type(error)(f"{store.full_path(path)}: {error}") from error


def list_snapshots(store: Store) -> list[str]:
    """Names of the committed snapshots, oldest first."""
    names = [name for name in store.list("embeddings") if SNAPSHOT_NAME.fullmatch(name)]
    return [name for name in names if store.size_bytes(f"{snapshot_folder(name)}/{MANIFEST}") is not None]
