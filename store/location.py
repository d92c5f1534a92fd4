"""One store, one URI: reading and writing files in a local folder, gs:// or s3:// alike."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import errno
import posixpath
import shutil
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.fs

from store import disk
from store.errors import StoreError, UserError
from store.filesystem import has_folders, lists_folders, open_filesystem, write_object
from store.objects import find_object

_COPY_BYTES = 1 << 22


@contextlib.contextmanager
def as_store_error(action: str, path: str) -> Iterator[None]:
    """Turns an error of the system or of Arrow inside the block into a StoreError of one line that says what to do."""
    try:
        yield
    except (OSError, pa.ArrowInvalid) as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        said = " ".join(str(error).split())
        cause = "no space left on device; free some space or choose another --store" if full else said
        raise StoreError(f"cannot {action} {path}: {cause}") from error


@contextlib.contextmanager
def _reading(path: str) -> Iterator[None]:
    try:
        with as_store_error("read", path):
            yield
    except StoreError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise error.__cause__ from None
        raise


@dataclasses.dataclass(frozen=True, slots=True)
class Store:
    """A place that holds snapshots, weights and indexes.

    Paths given to the methods are relative to the store, with forward slashes.

    Attributes:
        uri: Local folder, gs:// or s3:// URI.
    """

    uri: str

    def full_path(self, path: str) -> str:
        """The path or URI a person can use to find `path`."""
        return posixpath.join(self.uri.rstrip("/") or "/", path)

    def _locate(self, path: str) -> tuple[pyarrow.fs.FileSystem, str]:
        filesystem, root = open_filesystem(self.uri)
        return filesystem, posixpath.join(root, path) if path else root

    @contextlib.contextmanager
    def create(self, path: str) -> Iterator[pa.NativeFile]:
        """Opens a new file for writing; it is whole and lasts once the context ends, and gone if an error ends it.

        The name must be one that nobody else writes: of an object store nobody can ask for that.

        Raises:
            StoreError: The file cannot be written (no space, no permission), or a local store has it already.
        """
        filesystem, full = self._locate(path)
        local = isinstance(filesystem, pyarrow.fs.LocalFileSystem)
        with as_store_error("write", self.full_path(path)):
            if local:
                disk.make_folder(posixpath.dirname(full))
                disk.make_file(full)
            elif has_folders(filesystem):
                filesystem.create_dir(posixpath.dirname(full), recursive=True)
            stream = filesystem.open_output_stream(full)
            try:
                yield stream
                stream.close()
                if local:
                    disk.sync_file(full)
                    disk.sync_folder(posixpath.dirname(full))
            except BaseException:
                with contextlib.suppress(OSError):
                    stream.close()  # Arrow knows no other way to let go, and an object would look whole
                with contextlib.suppress(OSError):
                    filesystem.delete_file(full)
                raise

    def replace(self, path: str, data: bytes) -> None:
        """Writes `data` so that a reader sees the old file or the whole new one, never a part and never none.

        Once it returns, the file lasts. Where an object store does not say whether it was written, it is read back.

        Raises:
            StoreError: The file could not be written: the old one is there, or, where even that cannot be read back,
                the old one or the new one.
        """
        filesystem, full = self._locate(path)
        with as_store_error("write", self.full_path(path)):
            if isinstance(filesystem, pyarrow.fs.LocalFileSystem):
                disk.make_folder(posixpath.dirname(full))
                disk.replace_file(full, data)
                return
            if has_folders(filesystem):
                filesystem.create_dir(posixpath.dirname(full), recursive=True)
            try:
                write_object(filesystem, full, data)
            except OSError:
                if not self._holds(path, data):
                    raise

    def _holds(self, path: str, data: bytes) -> bool:
        try:
            return self.read(path) == data
        except (StoreError, FileNotFoundError):
            return False

    def read(self, path: str) -> bytes:
        """The whole of a file.

        Raises:
            FileNotFoundError: There is no such file.
            StoreError: It cannot be read.
        """
        filesystem, full = self._locate(path)
        with _reading(self.full_path(path)), filesystem.open_input_stream(full, compression=None) as stream:
            return bytes(stream.read())

    def open(self, path: str) -> pa.NativeFile:
        """Opens a file for random access (Parquet).

        Raises:
            FileNotFoundError: There is no such file.
            StoreError: It cannot be opened.
        """
        filesystem, full = self._locate(path)
        with _reading(self.full_path(path)):
            return filesystem.open_input_file(full)

    def size_bytes(self, path: str) -> int | None:
        """The size of a file in bytes, or None where there is none."""
        filesystem, full = self._locate(path)
        with _reading(self.full_path(path)):
            info: Any = filesystem.get_file_info(full)
        return int(info.size) if info.is_file else None

    def list(self, folder: str) -> list[str]:
        """Names of what lies directly in `folder`, sorted; empty where the folder does not exist."""
        filesystem, full = self._locate(folder)
        deep = not lists_folders(filesystem)
        with _reading(self.full_path(folder)):
            infos: Any = filesystem.get_file_info(pyarrow.fs.FileSelector(full, allow_not_found=True, recursive=deep))
        return sorted({posixpath.relpath(info.path, full).partition("/")[0] for info in infos})

    def local_path(self, path: str) -> Path | None:
        """Where a file or folder is on this machine's disk; None for an object store."""
        filesystem, full = self._locate(path)
        return Path(full) if isinstance(filesystem, pyarrow.fs.LocalFileSystem) else None

    def upload(self, local: Path, path: str) -> None:
        """Copies a local file to `path`; a reader sees the old file or the whole new one, never a part and never none.

        Raises:
            StoreError: It cannot be read or written; what was there stays.
            UserError: The client library that the store takes is not installed.
        """
        filesystem, full = self._locate(path)
        found = find_object(self.full_path(path))
        with as_store_error("write", self.full_path(path)):
            if isinstance(filesystem, pyarrow.fs.LocalFileSystem):
                disk.make_folder(posixpath.dirname(full))
                disk.replace_by_copy(local, full)
            elif found is not None:
                found.upload(local)
            else:
                temporary = f"{path}.{uuid.uuid4().hex}.tmp"
                with open(local, "rb") as source, self.create(temporary) as stream:
                    shutil.copyfileobj(source, stream, _COPY_BYTES)
                filesystem.move(self._locate(temporary)[1], full)

    def touch(self, path: str) -> None:
        """Makes sure that there is a file, empty where there was none; it lasts.

        Raises:
            StoreError: It cannot be written.
        """
        filesystem, full = self._locate(path)
        if not isinstance(filesystem, pyarrow.fs.LocalFileSystem):
            self.replace(path, b"")
            return
        with as_store_error("write", self.full_path(path)):
            disk.make_folder(posixpath.dirname(full))
            with contextlib.suppress(FileExistsError):
                disk.make_file(full)
            disk.sync_folder(posixpath.dirname(full))

    def settle(self, paths: Iterable[str]) -> None:
        """Makes the names of finished files last, each folder's on the way to them; object stores need none of it.

        Raises:
            StoreError: A folder cannot be synced.
        """
        root = self.local_path("")
        if root is None:
            return
        folders = {parent for path in paths for parent in PurePosixPath(path).parents}
        for folder in sorted(folders, reverse=True):  # the deepest first
            with as_store_error("write", self.full_path(str(folder))):
                disk.sync_folder(str(root / folder))

    def remove(self, path: str, *, lasting: bool = True) -> None:
        """Deletes a file; nothing happens where there is none.

        Args:
            path: The file.
            lasting: Whether it must be gone, power cut or not, before anything that is deleted later is.

        Raises:
            StoreError: It cannot be deleted.
        """
        filesystem, full = self._locate(path)
        with as_store_error("delete", self.full_path(path)), contextlib.suppress(FileNotFoundError):
            if isinstance(filesystem, pyarrow.fs.LocalFileSystem):
                disk.remove_file(full, lasting=lasting)
            else:
                filesystem.delete_file(full)

    def remove_folder(self, path: str) -> None:
        """Deletes a folder and all that is in it; nothing happens where there is none.

        Raises:
            StoreError: It cannot be deleted.
        """
        filesystem, full = self._locate(path)
        with as_store_error("delete", self.full_path(path)), contextlib.suppress(FileNotFoundError):
            if isinstance(filesystem, pyarrow.fs.LocalFileSystem):
                disk.remove_tree(full)
            elif lists_folders(filesystem):
                filesystem.delete_dir(full)
            else:  # there is no folder apart from what is in it
                filesystem.delete_dir_contents(full, missing_dir_ok=True)

    def sizes(self, folder: str) -> dict[str, int]:
        """Sizes in bytes of all files below a folder, by path relative to it; empty where there is none."""
        _, full = self._locate(folder)
        return {posixpath.relpath(info.path, full): int(info.size) for info in self._walk(folder) if info.is_file}

    def newest_change(self, path: str) -> datetime.datetime | None:
        """When a file below a folder last changed (UTC), or a file itself; a folder without files tells its own age.

        Returns:
            None where there is nothing, or nothing that knows its age.
        """
        infos = self._walk(path)
        files = [info for info in infos if info.is_file]
        return max((info.mtime for info in files or infos if info.mtime is not None), default=None)

    def total_bytes(self, path: str) -> int:
        """Size of a file, or of all files below a folder; 0 where there is nothing."""
        return sum(int(info.size) for info in self._walk(path) if info.is_file)

    def _walk(self, path: str) -> tuple[Any, ...]:
        filesystem, full = self._locate(path)
        with _reading(self.full_path(path)):
            info: Any = filesystem.get_file_info(full)
            if info.is_file:
                return (info,)
            selector = pyarrow.fs.FileSelector(full, allow_not_found=True, recursive=True)
            return (info, *filesystem.get_file_info(selector))

    def check_writable(self) -> None:
        """Fails early when nothing can be written here.

        Raises:
            UserError: The store is not a folder or cannot be written.
        """
        probe = f".writable-{uuid.uuid4().hex}"
        try:
            self.touch(probe)
            self.remove(probe)
        except (StoreError, OSError) as error:
            raise UserError(f"--store {self.uri}: expected a place that can be written: {error}") from error
