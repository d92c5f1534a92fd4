"""A version's files on a local disk: where they are written before they are uploaded, and where they are read from."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from index_builder.engine import CODES_FILE, VECTORS_FILE
from store.building import BUILDING_FILE
from store.errors import StoreError
from store.index import IndexFile, IndexManifest, version_folder
from store.location import Store, as_store_error

_HASH_BYTES = 1 << 22


@contextlib.contextmanager
def local_folder(store: Store, path: str) -> Iterator[Path]:
    """A local folder to write `path` of a store in: the place itself, or one that is uploaded when the block ends well.

    Raises:
        StoreError: It cannot be made or uploaded.
    """
    direct = store.local_path(path)
    with as_store_error("write", store.full_path(path)):
        if direct is not None:
            direct.mkdir(parents=True, exist_ok=True)
            yield direct
            return
        with tempfile.TemporaryDirectory(prefix="shelfmark-index-") as scratch:
            yield Path(scratch)
            for file in list_files(Path(scratch)):
                if file == BUILDING_FILE:
                    continue  # an old copy must not replace the builder's newer sign
                store.upload(Path(scratch) / file, f"{path}/{file}")


def list_files(folder: Path) -> list[str]:
    """Paths of all files below a folder, relative to it, with forward slashes, sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def describe_files(folder: Path, paths: list[str]) -> tuple[IndexFile, ...]:
    """Sizes and digests, as a manifest lists them; what was written is on disk once this returns."""
    return tuple(IndexFile(path, (folder / path).stat().st_size, _digest(folder / path)) for path in paths)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_HASH_BYTES):
            digest.update(chunk)
        os.fsync(file.fileno())
    return digest.hexdigest()


def fetch_missing(store: Store, path: str, folder: Path) -> None:
    """Downloads into `folder` what lies under `path` of a store and not there yet. Nothing to do for a local store."""
    if store.local_path(path) is not None:
        return
    for name in store.list(path):
        inner = f"{path}/{name}"
        if name == BUILDING_FILE:
            continue
        if store.size_bytes(inner) is None:
            fetch_missing(store, inner, folder / name)
        elif not (folder / name).exists():
            _download(store, inner, folder / name)


def _download(store: Store, path: str, target: Path) -> None:
    with as_store_error("read", store.full_path(path)):
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, partial = tempfile.mkstemp(dir=target.parent)
        try:
            with os.fdopen(descriptor, "wb") as sink, store.open(path) as source:
                shutil.copyfileobj(source, sink, _HASH_BYTES)
            os.replace(partial, target)
        finally:
            Path(partial).unlink(missing_ok=True)


def open_version(store: Store, manifest: IndexManifest, *, verify: bool = False) -> Path:
    """A local folder with a version's files, downloaded once per machine where the store is not local.

    Args:
        store: Holds the version.
        manifest: The version's.
        verify: Compare the digests of vectors and codes too. Those of all other files are always compared: they are
            small, and a flipped byte in one could end the process (ScaNN) or mix up ids.

    Raises:
        StoreError: A file is missing, cut short, or, when verifying, changed.
    """
    path = version_folder(manifest.version)
    direct = store.local_path(path)
    folder = direct or _copies() / manifest.version
    for file in manifest.files:
        local = folder / file.path
        if direct is None and not local.exists():
            _download(store, f"{path}/{file.path}", local)
        large = file.path.endswith((CODES_FILE, VECTORS_FILE))
        try:
            _check(store.full_path(f"{path}/{file.path}"), local, file, verify or not large)
        except StoreError:
            if direct is not None:
                raise
            _download(store, f"{path}/{file.path}", local)  # this machine's copy may be what is damaged
            _check(store.full_path(f"{path}/{file.path}"), local, file, verify or not large)
    return folder


def forget_copy(store: Store, version: str) -> None:
    """Deletes this machine's copy of a version, if it has one; the store keeps its own, and so does who has it open."""
    if store.local_path(version_folder(version)) is not None:
        return
    doomed = _copies() / f"{version}.{uuid.uuid4().hex}"
    with contextlib.suppress(OSError):  # renamed first: who opens it meanwhile finds it whole or not at all
        os.rename(_copies() / version, doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def _copies() -> Path:
    return Path(tempfile.gettempdir()) / "shelfmark-indexes"


def _check(name: str, local: Path, file: IndexFile, verify: bool) -> None:
    if not local.is_file():
        raise StoreError(f"{name}: listed in the index's manifest, found none; build the index again or roll back")
    size = local.stat().st_size
    if size != file.bytes:
        raise StoreError(f"{name}: expected {file.bytes} bytes, found {size}; build the index again or roll back")
    if verify and _digest(local) != file.sha256:
        raise StoreError(f"{name}: expected SHA-256 {file.sha256[:12]}, found another: it was changed or damaged")
