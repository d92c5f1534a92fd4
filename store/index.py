"""The manifest that makes a version of an index exist."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from store.errors import DamagedError, StoreError, UserError
from store.inner_paths import inner_path, locate
from store.listed_files import find_fault
from store.location import Store
from store.measured import IndexConfig, Latency, Recall, ShardEntry, read_config
from store.snapshot import MANIFEST, SNAPSHOT_NAME, check_name, known_fields, manifest_json

INDEX_FORMAT_VERSION = 1


@dataclasses.dataclass(frozen=True, slots=True)
class IndexFile:
    """A file of a version.

    Attributes:
        path: Relative to the version's folder.
        bytes: Its size.
        sha256: Hex digest of its content.

    Raises:
        StoreError: The path leads out of the folder.
    """

    path: str
    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        """Checks the path, which may come from a file."""
        inner_path(self.path)


@dataclasses.dataclass(frozen=True, slots=True)
class IndexManifest:
    """What a version holds, how it was built and what was measured; the fields of manifest.json in their order."""

    version: str
    created_at: str
    snapshot: str
    encoder: dict[str, Any]
    vectors: int
    shards: tuple[ShardEntry, ...]
    config: IndexConfig
    recall: Recall
    latency: Latency
    memory_bytes: int
    files: tuple[IndexFile, ...]
    timing: dict[str, Any]
    versions: dict[str, str]
    format_version: int = INDEX_FORMAT_VERSION

    @property
    def meets_target(self) -> bool:
        """Whether the measured recall reaches the target."""
        return self.recall.measured >= self.recall.target

    @property
    def untrained(self) -> bool:
        """Whether the encoder's weights are random numbers, so that similarities mean nothing."""
        return is_untrained(self.encoder.get("weights"))

    def to_json(self) -> bytes:
        """The manifest as UTF-8 JSON, format_version first."""
        return manifest_json(self)

    @classmethod
    def from_json(cls, data: bytes) -> IndexManifest:
        """Reads a manifest.

        Raises:
            DamagedError: It is cut or no manifest.
            StoreError: It is one of another format than this release reads.
        """
        try:
            fields = json.loads(data)
            if fields["format_version"] != INDEX_FORMAT_VERSION:
                raise StoreError(
                    f"index format: expected {INDEX_FORMAT_VERSION}, found {fields['format_version']}; "
                    "use the Shelfmark that wrote it"
                )
            for shard in fields["shards"]:
                inner_path(shard["name"])
            fields["shards"] = tuple(ShardEntry.from_dict(shard) for shard in fields["shards"])
            fields["config"] = read_config(fields["config"])
            fields["recall"] = Recall.from_dict(fields["recall"])
            fields["latency"] = Latency.from_dict(fields["latency"])
            fields["files"] = tuple(IndexFile(**file) for file in fields["files"])
            manifest = cls(**known_fields(cls, fields))
            check_name(manifest.snapshot, DamagedError)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DamagedError(f"not an index manifest: {error!r}") from error
        return manifest


def is_untrained(weights: object) -> bool:
    """Whether weights of this label are random numbers: a run with them is real, its similarities mean nothing."""
    return str(weights).partition(":")[0] == "random"


def version_folder(version: str) -> str:
    """Where a version lies, relative to its store.

    Raises:
        UserError: It is no version's name.
    """
    return f"indexes/{check_name(version)}"


def list_versions(store: Store) -> list[str]:
    """Names of the versions that exist, published or not, oldest first."""
    names = [name for name in store.list("indexes") if SNAPSHOT_NAME.fullmatch(name)]
    return [name for name in names if version_exists(store, name)]


def version_exists(store: Store, version: str) -> bool:
    """Whether a version has a manifest, published or not."""
    return store.size_bytes(f"{version_folder(version)}/{MANIFEST}") is not None


def read_index_manifest(store: Store, version: str) -> IndexManifest:
    """The manifest of a version.

    Raises:
        UserError: There is no such version.
        DamagedError: Its manifest is cut, none, or another version's.
        StoreError: Its manifest cannot be read, or is of another format.
    """
    try:
        folder = version_folder(version)
    except UserError as error:
        raise UserError(f"no version {version} in {store.uri}: {error}") from error
    path = f"{folder}/{MANIFEST}"
    try:
        manifest = IndexManifest.from_json(store.read(locate(store, folder, MANIFEST)))
    except FileNotFoundError as error:
        raise UserError(f"no version {version} in {store.uri}; see shelfmark versions --store {store.uri}") from error
    except StoreError as error:
        raise type(error)(f"{store.full_path(path)}: {error}") from error
    if manifest.version != version:
        raise DamagedError(f"{store.full_path(path)}: expected version {version}, found {manifest.version}")
    return manifest


def commit_version(store: Store, manifest: IndexManifest) -> None:
    """Makes a version exist: checks that its files are whole and last, then writes the manifest. Does not publish it.

    Whoever wrote the files has synced them; here their names are, before the manifest says that they are there.

    Raises:
        DamagedError: A file is missing or of another size.
        StoreError: The manifest cannot be written.
    """
    check_files(store, manifest)
    folder = version_folder(manifest.version)
    store.settle([f"{folder}/{MANIFEST}", *(f"{folder}/{file.path}" for file in manifest.files)])
    store.replace(f"{folder}/{MANIFEST}", manifest.to_json())


def check_files(store: Store, manifest: IndexManifest) -> None:
    """Compares the sizes of a version's files with its manifest.

    Raises:
        DamagedError: A file is missing or of another size.
        StoreError: The store cannot be read.
    """
    folder = version_folder(manifest.version)
    fault = find_fault(store, folder, {file.path: file.bytes for file in manifest.files})
    if fault:
        raise DamagedError(fault)
