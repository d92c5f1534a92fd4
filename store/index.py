"""The manifest that makes a version of an index exist, and CURRENT, which names the published one."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from store.errors import GateRefused, StoreError, UserError
from store.inner_paths import inner_path, locate
from store.location import Store
from store.snapshot import MANIFEST, SNAPSHOT_NAME, check_name, manifest_json

INDEX_FORMAT_VERSION = 1

_CURRENT = "indexes/CURRENT"


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
            StoreError: It is not a manifest of a format this version reads.
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
            manifest = cls(**fields)
            check_name(manifest.snapshot, StoreError)
            for shard in manifest.shards:
                inner_path(shard["name"])
            _ = manifest.meets_target  # without both numbers nobody can tell whether it may be published
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise StoreError(f"not an index manifest: {error!r}") from error
        return manifest


def version_folder(version: str) -> str:
    """Where a version lies, relative to its store.

    Raises:
        UserError: It is no version's name.
    """
    return f"indexes/{check_name(version)}"


def list_versions(store: Store) -> list[str]:
    """Names of the versions that exist, published or not, oldest first."""
    names = [name for name in store.list("indexes") if SNAPSHOT_NAME.fullmatch(name)]
    return [name for name in names if _exists(store, name)]


def read_current(store: Store) -> str | None:
    """What CURRENT says, whether or not there is such a version; None before the first is published.

    Raises:
        StoreError: CURRENT holds something that is no version's name.
    """
    try:
        name = store.read(_CURRENT).decode("ascii", "replace").strip()
    except FileNotFoundError:
        return None
    if not SNAPSHOT_NAME.fullmatch(name):
        raise StoreError(
            f"{store.full_path(_CURRENT)}: expected the name of a version, found {name[:40]!r}; "
            "publish one with shelfmark rollback --to"
        )
    return name


def current_version(store: Store) -> str | None:
    """Name of the published version, or None before the first.

    Raises:
        StoreError: CURRENT names no version, or one that does not exist.
    """
    name = read_current(store)
    if name is not None and not _exists(store, name):
        raise StoreError(
            f"{store.full_path(_CURRENT)}: expected a version that exists, found {name}, which has no {MANIFEST}; "
            "publish another with shelfmark rollback --to"
        )
    return name


def _exists(store: Store, version: str) -> bool:
    return store.size_bytes(f"{version_folder(version)}/{MANIFEST}") is not None


def read_index_manifest(store: Store, version: str) -> IndexManifest:
    """The manifest of a version.

    Raises:
        UserError: There is no such version.
        StoreError: Its manifest cannot be read.
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
        raise StoreError(f"{store.full_path(path)}: {error}") from error
    if manifest.version != version:
        raise StoreError(f"{store.full_path(path)}: expected version {version}, found {manifest.version}")
    return manifest


def commit_version(store: Store, manifest: IndexManifest) -> None:
    """Makes a version exist: checks that its files are whole, then writes the manifest. Does not publish it.

    Raises:
        StoreError: A file is missing or of another size.
    """
    _check_sizes(store, manifest)
    store.replace(f"{version_folder(manifest.version)}/{MANIFEST}", manifest.to_json())


def _check_sizes(store: Store, manifest: IndexManifest) -> None:
    folder = version_folder(manifest.version)
    for file in manifest.files:
        found = store.size_bytes(f"{folder}/{file.path}")
        if found != file.bytes:
            size = "none" if found is None else f"{found} bytes"
            raise StoreError(f"{store.full_path(folder)}/{file.path}: expected {file.bytes} bytes, found {size}")


def publish(store: Store, version: str) -> None:
    """Makes a version the one that readers open. They see the one before or this one, never neither.

    Of two that publish at once the later one stays.

    Raises:
        GateRefused: Its recall is under its target.
        UserError: There is no such version.
        StoreError: One of its files is missing or of another size, or it was pruned at this very moment.
    """
    manifest = read_index_manifest(store, version)
    if not manifest.meets_target:
        raise GateRefused(
            f"version {version}: expected recall of at least {manifest.recall['target']}, found "
            f"{manifest.recall['measured']}; it is not published"
        )
    _check_sizes(store, manifest)
    try:
        before = store.read(_CURRENT)
    except FileNotFoundError:
        before = None
    store.replace(_CURRENT, f"{version}\n".encode())
    # `prune` deletes a manifest, then reads CURRENT; here it is the other way round: one of the two sees the other.
    if _exists(store, version):
        return
    if before is None:
        store.remove(_CURRENT)
    else:
        store.replace(_CURRENT, before)
    raise StoreError(f"version {version} was pruned while it was being published; CURRENT is as it was before")
