"""A version's files on a local disk: where they are written before they are uploaded, and where they are read from."""

from __future__ import annotations

import collections
import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from index_builder.search.engine import CODES_FILE, VECTORS_FILE
from store import disk
from store.building import BUILDING_FILE
from store.errors import StoreError
from store.index import IndexFile, IndexManifest, version_folder
from store.inner_paths import inner_path, locate, refuse_links, refuse_links_below
from store.location import Store, as_store_error

_HASH_BYTES = 1 << 22
_DOWNLOAD_LOCK = ".download.lock"
_PARTIAL = ".partial"

# Locks on the folders of copies that this process has open, one for each time. The kernel lets go of a dead process's.
_USES: collections.defaultdict[Path, list[int]] = collections.defaultdict(list)


@contextlib.contextmanager
def local_folder(store: Store, path: str) -> Iterator[Path]:
    """A local folder to write `path` of a store in: the place itself, or one that is uploaded when the block ends well.

    Raises:
        StoreError: It cannot be made or uploaded.
    """
    direct = store.local_path(path)
    with as_store_error("write", store.full_path(path)):
        if direct is not None:
            disk.make_folder(str(direct))
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
        inner = f"{path}/{inner_path(name)}"
        if name == BUILDING_FILE:
            continue
        if store.size_bytes(inner) is None:
            fetch_missing(store, inner, folder / name)
        elif not (folder / name).exists():
            _download(store, inner, folder / name)


def _download(store: Store, path: str, target: Path) -> None:
    """Writes `target` as a whole or not at all. What a killed download has left is written over by the next."""
    partial = target.with_name(target.name + _PARTIAL)
    with as_store_error("read", store.full_path(path)):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(partial, "wb") as sink, store.open(path) as source:
                shutil.copyfileobj(source, sink, _HASH_BYTES)
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)


def open_version(store: Store, manifest: IndexManifest, *, verify: bool = False) -> Path:
    """A local folder with a version's files, downloaded once per machine where the store is not local.

    A copy stays until every process that has opened it has ended or called `forget_copy` as often as it did.

    Args:
        store: Holds the version.
        manifest: The version's.
        verify: Compare the digests of vectors and codes too, not only where they have just been downloaded. Those of
            all other files are always compared: they are small, and a flipped byte in one could end the process
            (ScaNN) or mix up ids.

    Raises:
        StoreError: A file is missing, cut short, leads out of the version's folder, or, when verifying, changed.
    """
    path = version_folder(manifest.version)
    direct = store.local_path(path)
    if direct is not None:
        for file in manifest.files:
            name = store.full_path(locate(store, path, file.path))
            _check(name, direct / file.path, file, verify or not _is_large(file))
        refuse_links_below(direct)
        return direct
    folder = _copies() / manifest.version
    use = _start_use(folder)
    try:
        with _downloading(folder):
            for file in manifest.files:
                _complete(store, locate(store, path, file.path), folder, file, verify)
            refuse_links_below(folder)
    except BaseException:
        os.close(use)
        raise
    _USES[folder].append(use)
    return folder


def forget_copy(store: Store, version: str) -> None:
    """Gives up this machine's copy of a version that `open_version` made, and deletes it if nobody else has it open."""
    if store.local_path(version_folder(version)) is not None:
        return
    folder = _copies() / version
    with contextlib.suppress(IndexError):
        os.close(_USES[folder].pop())
    with contextlib.suppress(OSError):  # there is none, or it is in use
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(descriptor, folder):
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(descriptor)


def _copies() -> Path:
    return Path(tempfile.gettempdir()) / "shelfmark-indexes"


def _is_at(descriptor: int, folder: Path) -> bool:
    """Whether an open folder is the one that is there now; whose lock was waited for may be deleted since."""
    return os.path.samestat(os.fstat(descriptor), os.stat(folder))


def _start_use(folder: Path) -> int:
    """Makes a folder and locks it against deletion, for as long as the descriptor is open."""
    with as_store_error("write", str(folder)):
        while True:
            with contextlib.suppress(FileExistsError):  # `exist_ok` would fail where it is deleted meanwhile
                folder.mkdir(parents=True)
            with contextlib.suppress(FileNotFoundError):  # deleted meanwhile: make it again
                descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_SH)
                    if _is_at(descriptor, folder):
                        return os.dup(descriptor)
                finally:
                    os.close(descriptor)


@contextlib.contextmanager
def _downloading(folder: Path) -> Iterator[None]:
    """One process at a time: the others wait, and find the files there."""
    with as_store_error("write", str(folder)):
        descriptor = os.open(folder / _DOWNLOAD_LOCK, os.O_RDONLY | os.O_CREAT, 0o666)
    try:
        with as_store_error("write", str(folder)):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _complete(store: Store, path: str, folder: Path, file: IndexFile, verify: bool) -> None:
    """Makes sure that a copy of a file is there, in the folder of copies and nowhere else, and good."""
    name, local = store.full_path(path), folder / file.path
    refuse_links(folder, file.path)
    try:
        _check(name, local, file, verify or not _is_large(file))
    except StoreError:  # not there yet, or this machine's copy is what is damaged
        _download(store, path, local)
        _check(name, local, file, verify=True)


def _is_large(file: IndexFile) -> bool:
    return file.path.endswith((CODES_FILE, VECTORS_FILE))


def _check(name: str, local: Path, file: IndexFile, verify: bool) -> None:
    if not local.is_file():
        raise StoreError(f"{name}: listed in the index's manifest, found none; build the index again or roll back")
    size = local.stat().st_size
    if size != file.bytes:
        raise StoreError(f"{name}: expected {file.bytes} bytes, found {size}; build the index again or roll back")
    if verify and _digest(local) != file.sha256:
        raise StoreError(f"{name}: expected SHA-256 {file.sha256[:12]}, found another: it was changed or damaged")
