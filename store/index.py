"""The manifest that makes a version of an index exist."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from store.errors import DamagedError, StoreError, UserError
from store.listed_files import find_fault
from store.location import Store
from store.snapshot import MANIFEST, SNAPSHOT_NAME, known_fields, manifest_json

INDEX_FORMAT_VERSION = 1


@dataclasses.dataclass(frozen=True, slots=True)
class IndexFile:
    """A file of a version.

    Attributes:
        path: Relative to the version's folder.
        bytes: Its size.
        sha256: Hex digest of its content.
    """

    path: str
    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True, slots=True)
class IndexManifest:
    """What a version holds, how it was built and what was measured; the fields of manifest.json in their order."""

    version: str
    created_at: str
    snapshot: str
    encoder: dict[str, Any]
    vectors: int
    shards: tuple[dict[str, Any], ...]
    config: dict[str, Any]
    recall: dict[str, Any]
    latency: dict[str, Any]
    memory_bytes: int
    files: tuple[IndexFile, ...]
    timing: dict[str, Any]
    versions: dict[str, str]
    format_version: int = INDEX_FORMAT_VERSION

    @property
    def meets_target(self) -> bool:
        """Whether the measured recall reaches the target."""
        return bool(self.recall["measured"] >= self.recall["target"])

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
            fields["shards"] = tuple(fields["shards"])
            fields["files"] = tuple(IndexFile(**file) for file in fields["files"])
            manifest = cls(**known_fields(cls, fields))
            _ = manifest.meets_target  # without both numbers nobody can tell whether it may be published
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedError(f"not an index manifest: {error!r}") from error
        return manifest


def version_folder(version: str) -> str:
    """Where a version lies, relative to its store."""
    return f"indexes/{version}"


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
    path = f"{version_folder(version)}/{MANIFEST}"
    try:
        manifest = IndexManifest.from_json(store.read(path))
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
