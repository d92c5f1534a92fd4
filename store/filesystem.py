"""Opening the file system a store lies on, with retries: a local folder, gs://, s3:// and what else Arrow knows."""

from __future__ import annotations

import datetime
import functools
import os
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.fs

from store.errors import StoreError, UserError

_ATTEMPTS = 10  # the SDK's own 3 lose a run of a few thousand requests to a server that fails one in twenty
_RETRY_FOR = datetime.timedelta(minutes=2)


def open_filesystem(uri: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """The file system of a store's URI, and the store's root on it.

    Credentials come from where Amazon's and Google's own clients look for them.

    Raises:
        UserError: There is no such kind of store, or the environment names no usable server.
        StoreError: Nobody can say in which region a bucket is.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return pyarrow.fs.LocalFileSystem(), os.path.abspath(uri)
    if scheme == "s3":
        return _open_s3(_bucket(uri, rest), s3_endpoint(), _environment("AWS_REGION", "AWS_DEFAULT_REGION")), rest
    if scheme == "gs":
        _bucket(uri, rest)
        return _open_gcs(_environment("STORAGE_EMULATOR_HOST")), rest
    return _open_other(uri)


def _bucket(uri: str, rest: str) -> str:
    bucket = rest.partition("/")[0]
    if not bucket:
        raise UserError(f"--store {uri}: expected a bucket's name after ://")
    return bucket


def s3_endpoint() -> str:
    """The URL of the S3 server that the environment names, or "" for Amazon's own; boto3 reads the same variables.

    Raises:
        UserError: It is no URL.
    """
    endpoint = _environment("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    if endpoint and not endpoint.startswith(("http://", "https://")):
        raise UserError(f"AWS_ENDPOINT_URL: expected http://host:port or https://host, found {endpoint}")
    return endpoint


def _environment(*names: str) -> str:
    return next((os.environ[name] for name in names if os.environ.get(name)), "")


@functools.lru_cache(maxsize=16)
def _open_s3(bucket: str, endpoint: str, region: str) -> pyarrow.fs.FileSystem:
    scheme, _, host = endpoint.partition("://")
    options = {"scheme": scheme, "endpoint_override": host.rstrip("/")} if endpoint else {}
    if region:
        options["region"] = region
    elif not endpoint:
        options["region"] = _region_of(bucket)
    return pyarrow.fs.S3FileSystem(
        **options,
        retry_strategy=pyarrow.fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
        allow_delayed_open=True,  # a small file is one PUT, not an upload in parts
    )


def _region_of(bucket: str) -> str:
    try:
        return pyarrow.fs.resolve_s3_region(bucket)
    except OSError as error:
        raise StoreError(
            f"cannot find the region of s3://{bucket}; set AWS_REGION, or AWS_ENDPOINT_URL where the store is not "
            f"Amazon's: {' '.join(str(error).split())}"
        ) from error


@functools.lru_cache(maxsize=1)
def _open_gcs(emulator: str) -> pyarrow.fs.FileSystem:
    if not emulator:
        return pyarrow.fs.GcsFileSystem(retry_time_limit=_RETRY_FOR)
    scheme, separator, host = emulator.rpartition("://")
    return pyarrow.fs.GcsFileSystem(
        anonymous=True,
        scheme=scheme if separator else "http",
        endpoint_override=host.rstrip("/"),
        retry_time_limit=_RETRY_FOR,
    )


@functools.lru_cache(maxsize=16)
def _open_other(uri: str) -> tuple[pyarrow.fs.FileSystem, str]:
    try:
        return pyarrow.fs.FileSystem.from_uri(uri)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(
            f"--store {uri}: expected a local folder, gs://bucket/path or s3://bucket/path ({error})"
        ) from error


def has_folders(filesystem: pyarrow.fs.FileSystem) -> bool:
    """Whether a folder must be made before a file is; an object store's are only a way to read its keys."""
    return filesystem.type_name not in ("s3", "gcs")


def lists_folders(filesystem: pyarrow.fs.FileSystem) -> bool:
    """Whether a folder's listing names the folders in it; Arrow's of gs:// does so only for marker objects."""
    return filesystem.type_name != "gcs"


def write_object(filesystem: pyarrow.fs.FileSystem, full: str, data: bytes) -> None:
    """Writes in a thread of its own, where no signal arrives.

    One that ended it between opening and writing would leave an empty object in the place of a good one, as Arrow
    finishes what was begun whatever happens.

    Raises:
        OSError: The server did not say that it was written.
    """
    with ThreadPoolExecutor(1, "write") as writing:
        writing.submit(_write_stream, filesystem, full, data).result()


def _write_stream(filesystem: pyarrow.fs.FileSystem, full: str, data: bytes) -> None:
    with filesystem.open_output_stream(full) as stream:
        stream.write(data)
