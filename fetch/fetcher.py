"""From a picture's URI to its encoded bytes, wherever it lies."""

from __future__ import annotations

import errno
import functools
import importlib
import os
import random
import stat
import time
from collections.abc import Callable

from fetch.byte_budget import FREE_BYTES, ByteBudget, read_bounded, too_large
from fetch.deadline import Deadline
from fetch.file_systems import open_file_systems
from fetch.http import HttpDownloader, shown_uri
from fetch.local import open_allowed
from fetch.options import FetchOptions
from fetch.policy import FetchPolicy
from fetch.source_version import Fetched, of_file, of_object
from fetch.uris import path_of, resolve_uri, scheme_of
from store.rejects import Reason, Rejected
from store.shortage import Lack, refuse_if_short, shortage_of

__all__ = ["FetchOptions", "ImageFetcher", "is_same_file", "resolve_uri"]

# What each of Beam's optional file systems cannot do without, and what brings it. Beam itself registers some of them
# even where they cannot work, and then fails in ways that do not name the cause.
_CLIENT_OF_SCHEME = {
    "abfs": ("azure.storage.blob", "shelfmark[azure]"),
    "azfs": ("azure.storage.blob", "shelfmark[azure]"),
    "gs": ("google.cloud.storage", "shelfmark[gcp]"),
    "hdfs": ("hdfs", "apache-beam[hadoop]"),
    "s3": ("boto3", "shelfmark[aws]"),
}
# A disk or a network file system in trouble, not a picture.
_PASSING_ERRNOS = frozenset(
    {
        errno.EAGAIN,
        errno.EBUSY,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.EIO,
        errno.ENOTCONN,
        errno.ESTALE,
        errno.ETIMEDOUT,
    }
)


class ImageFetcher:
    """Fetches encoded pictures from local paths, file, http(s) and whatever Beam's file systems open.

    Thread-safe: meant to be shared by `options.parallel_fetches` threads. Creating one does no I/O.
    """

    def __init__(
        self,
        options: FetchOptions,
        policy: FetchPolicy,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        wall_clock: Callable[[], float] = time.time,
        jitter: random.Random | None = None,
    ) -> None:
        """Takes the limits, and what tests replace.

        Args:
            options: The limits.
            policy: What may be fetched at all.
            clock: Seconds, never going back.
            sleep: Waits that many seconds.
            wall_clock: Seconds since the epoch.
            jitter: Draws the pauses between attempts.
        """
        self._options = options
        self._policy = policy
        self._clock = clock
        self._wall_clock = wall_clock
        self._budget = ByteBudget(options.max_in_flight_bytes)
        # Pauses need to differ between workers, not to be unguessable.
        jitter = jitter or random.Random()  # noqa: S311
        self._http = HttpDownloader(options, self._budget, clock, sleep, jitter, policy)

    def fetch(self, uri: str) -> bytes:
        """The picture's encoded bytes, as they lie in the file or come from the server (content encoding undone).

        The bytes count against the fetcher's memory limits only until they are returned.

        Args:
            uri: Absolute, or relative to the working directory.

        Raises:
            Rejected: With one of the fetch reasons.
            ShortageError: It is this process that has too few descriptors or too little memory.
        """
        fetched = self.fetch_newer(uri)
        assert fetched is not None  # nothing was known
        return fetched.data

    def fetch_newer(self, uri: str, known: str = "") -> Fetched | None:
        """The picture, unless its source says that it is still as known; then nothing is read.

        Args:
            uri: Absolute, or relative to the working directory.
            known: The `source_version` of an earlier fetch of the same URI, or "".

        Raises:
            Rejected: With one of the fetch reasons.
            ShortageError: It is this process that has too few descriptors or too little memory.
        """
        try:
            return self._read(uri, known)
        except Exception as error:
            shortage = shortage_of(error)
            if shortage is None:
                raise
            self._http.close()  # idle connections hold descriptors
            raise shortage from error

    def _read(self, uri: str, known: str) -> Fetched | None:
        scheme = scheme_of(uri)
        if not scheme:
            return self._read_file(uri, known)
        if scheme in ("http", "https"):
            return self._http.download(uri, known)
        if scheme == "file":
            return self._read_file(path_of(uri), known)
        return self._read_remote(uri, scheme, known)

    def close(self) -> None:
        """Closes idle connections."""
        self._http.close()

    def _read_file(self, path: str, known: str) -> Fetched | None:
        try:
            descriptor = open_allowed(path, self._policy)
            try:
                return self._read_descriptor(descriptor, known)
            finally:
                os.close(descriptor)
        except (OSError, ValueError) as error:  # ValueError: a NUL, or characters no file name can have
            raise _rejected_file(error, path) from error

    def _read_descriptor(self, descriptor: int, known: str) -> Fetched | None:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Rejected(Reason.FETCH_ERROR, "expected a regular file, found a folder, pipe or device")
        version = of_file(status.st_size, status.st_mtime_ns, self._wall_clock())
        if known and version == known:
            return None
        if status.st_size > self._options.max_image_bytes:
            raise too_large(str(status.st_size), self._options.max_image_bytes)
        if status.st_size <= FREE_BYTES:
            return Fetched(_read_exactly(descriptor, status.st_size), version)
        with self._budget.hold(status.st_size):
            return Fetched(_read_exactly(descriptor, status.st_size), version)

    def _read_remote(self, uri: str, scheme: str, known: str) -> Fetched | None:
        self._policy.check(uri)
        _require_client(scheme)
        open_file_systems()
        from apache_beam.io.filesystem import CompressionTypes
        from apache_beam.io.filesystems import FileSystems

        try:
            FileSystems.get_filesystem(uri)
        except Exception as error:
            raise Rejected(Reason.UNSUPPORTED_SCHEME, f"no file system is installed for {scheme}://") from error
        deadline = Deadline(self._clock, self._options.deadline_s)
        limits = (None, self._options.max_image_bytes, self._budget, deadline)
        try:
            version = of_object(FileSystems.checksum(uri))
            if known and version == known:
                return None
            # Uncompressed, or a name that ends in .gz would be unpacked without a limit.
            with FileSystems.open(uri, compression_type=CompressionTypes.UNCOMPRESSED) as opened:
                return Fetched(read_bounded(opened.read, *limits), version)
        except Rejected:
            raise
        except Exception as error:  # each cloud's client raises its own kinds, with no common base
            raise _rejected_remote(error, uri) from error


def is_same_file(uri: str, known: str, policy: FetchPolicy) -> bool | None:
    """Whether a file is still of a known version, told by its name's entry alone; None for what is no local file.

    Raises:
        Rejected: not_allowed, where the policy does not let it be looked at.
    """
    scheme = scheme_of(uri)
    if scheme not in ("", "file"):
        return None
    folder, below = policy.real_path(path_of(uri) if scheme else uri)
    try:
        status = os.stat(os.path.join(folder, below), follow_symlinks=not folder)
    except (OSError, ValueError):
        return False
    return of_file(status.st_size, status.st_mtime_ns, time.time()) == known


def _read_exactly(descriptor: int, size_bytes: int) -> bytes:
    data = os.read(descriptor, size_bytes + 1)
    # Network file systems may return less than was asked for before the end.
    while len(data) < size_bytes and (more := os.read(descriptor, size_bytes + 1 - len(data))):
        data += more
    if len(data) != size_bytes:
        raise Rejected(Reason.FETCH_ERROR, f"expected {size_bytes} bytes, found a file that changed while it was read")
    return data


def _rejected_file(error: OSError | ValueError, path: str) -> Rejected:
    shown = shown_uri(repr(path))
    match error:
        case FileNotFoundError() | NotADirectoryError():
            return Rejected(Reason.NOT_FOUND, f"no file {shown}")
        case PermissionError():
            return Rejected(Reason.FORBIDDEN, f"no permission to read {shown}")
        case OSError():
            passing = error.errno in _PASSING_ERRNOS
            return Rejected(Reason.FETCH_ERROR, f"{error.strerror or type(error).__name__}: {shown}", passing=passing)
    return Rejected(Reason.NOT_FOUND, f"no file can be named {shown}")


@functools.cache
def _missing_package(scheme: str) -> str:
    """What to install before the scheme works; "" if nothing."""
    module, package = _CLIENT_OF_SCHEME.get(scheme, ("", ""))
    try:
        if module:
            importlib.import_module(module)
    except ImportError:
        refuse_if_short(Lack.DESCRIPTORS)  # a library that could not be opened is not one that is missing
        return package
    return ""


def _require_client(scheme: str) -> None:
    package = _missing_package(scheme)
    if package:
        raise Rejected(Reason.UNSUPPORTED_SCHEME, f"{scheme}:// needs another package: pip install '{package}'")


def _rejected_remote(error: Exception, uri: str) -> Rejected:
    """Reads the HTTP-like status that every cloud client's errors carry somewhere."""
    shown = shown_uri(uri)
    # Beam wraps what a client raised as {path: error}.
    cause = next(iter(getattr(error, "exception_details", None) or {"": error}.values()))
    statuses = [getattr(cause, name, None) for name in ("code", "status_code", "status")]
    if isinstance(cause, FileNotFoundError) or 404 in statuses:
        return Rejected(Reason.NOT_FOUND, f"nothing at {shown}")
    if isinstance(cause, PermissionError) or 401 in statuses or 403 in statuses:
        return Rejected(Reason.FORBIDDEN, f"no permission to read {shown}")
    if isinstance(cause, TimeoutError):
        return Rejected(Reason.TIMEOUT, f"no answer in time from {shown}", passing=True)
    lasting = any(isinstance(status, int) and 400 <= status < 500 and status != 429 for status in statuses)
    return Rejected(Reason.FETCH_ERROR, f"{type(cause).__name__} from {shown}", passing=not lasting)
