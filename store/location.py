"""One store, one URI: reading and writing files in a local folder, gs:// or s3:// alike."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import errno
import os
import posixpath
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs

from store.errors import StoreError, UserError
from store.filesystem import has_folders, lists_folders, open_filesystem

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
        """Opens a new file for writing; it is whole once the context ends, and gone if an error ends it.

        Raises:
            StoreError: The file cannot be written (no space, no permission).
        """
        filesystem, full = self._locate(path)
        with as_store_error("write", self.full_path(path)):
            if has_folders(filesystem):
                filesystem.create_dir(posixpath.dirname(full), recursive=True)
            stream = filesystem.open_output_stream(full)
            try:
                yield stream
                stream.close()
            except BaseException:
                with contextlib.suppress(OSError):
                    stream.close()  # Arrow knows no other way to let go, and an object would look whole
                with contextlib.suppress(OSError):
                    filesystem.delete_file(full)
                raise

    def replace(self, path: str, data: bytes) -> None:
        """Writes `data` so that a reader sees the old file or the whole new one, never a part.

        Raises:
            StoreError: The file cannot be written.
        """
        filesystem, full = self._locate(path)
        if not isinstance(filesystem, pyarrow.fs.LocalFileSystem):
            with self.create(path) as stream:  # an object appears only when its upload is complete
                stream.write(data)
            return
        temporary = f"{full}.{uuid.uuid4().hex}.tmp"
        with as_store_error("write", self.full_path(path)):
            os.makedirs(os.path.dirname(full), exist_ok=True)
            try:
                with open(temporary, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, full)
            except OSError:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                raise

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
        """Copies a local file to `path`; a reader sees it whole or not at all.

        Raises:
            StoreError: It cannot be read or written.
        """
        direct = self.local_path(path)
        with as_store_error("write", self.full_path(path)), open(local, "rb") as source:
            if direct is None:
                with self.create(path) as stream:
                    shutil.copyfileobj(source, stream, _COPY_BYTES)
                return
            direct.parent.mkdir(parents=True, exist_ok=True)
            temporary = direct.with_name(f"{direct.name}.{uuid.uuid4().hex}.tmp")
            try:
                with open(temporary, "wb") as target:
                    shutil.copyfileobj(source, target, _COPY_BYTES)
                    target.flush()
                    os.fsync(target.fileno())
                os.replace(temporary, direct)
            finally:
                temporary.unlink(missing_ok=True)

    def remove(self, path: str) -> None:
        """Deletes a file; nothing happens where there is none.

        Raises:
            StoreError: It cannot be deleted.
        """
        filesystem, full = self._locate(path)
        with as_store_error("delete", self.full_path(path)), contextlib.suppress(FileNotFoundError):
            filesystem.delete_file(full)

    def remove_folder(self, path: str) -> None:
        """Deletes a folder and all that is in it; nothing happens where there is none.

        Raises:
            StoreError: It cannot be deleted.
        """
        filesystem, full = self._locate(path)
        with as_store_error("delete", self.full_path(path)), contextlib.suppress(FileNotFoundError):
            if lists_folders(filesystem):
                filesystem.delete_dir(full)
            else:  # there is no folder apart from what is in it
                filesystem.delete_dir_contents(full, missing_dir_ok=True)

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
            self.replace(probe, b"")
            filesystem, full = self._locate(probe)
            filesystem.delete_file(full)
        except (StoreError, OSError) as error:
            raise UserError(f"--store {self.uri}: expected a place that can be written: {error}") from error
