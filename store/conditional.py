"""Compare-and-swap on one small file: a local folder, s3:// and gs:// alike.

What is written must differ from whatever anybody else writes there (an owner's name, a time): a request whose answer
was lost is told from a lost race by reading the file again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import importlib
import os
from collections.abc import Iterator
from typing import Any, Protocol

from store.errors import StoreError, UserError
from store.filesystem import s3_endpoint
from store.location import Store

_ATTEMPTS = 10


@dataclasses.dataclass(frozen=True, slots=True)
class Versioned:
    """A file's content, and what stands for exactly this content of it.

    Attributes:
        data: All of it.
        token: An etag (s3), a generation (gs) or a digest (local).
    """

    data: bytes
    token: str


class _Refused(Exception):
    """The file is not the one of the token, or was written by somebody else at the same time."""


class _Cell(Protocol):
    def read(self) -> Versioned | None: ...

    def write(self, data: bytes, token: str | None) -> str: ...


def read_versioned(store: Store, path: str) -> Versioned | None:
    """A file and its token, or None where there is no such file.

    Raises:
        StoreError: It cannot be read.
        UserError: The store is of a kind without conditional writes, or its client library is missing.
    """
    return _cell(store, path).read()


def write_if(store: Store, path: str, data: bytes, token: str | None) -> str | None:
    """Writes a file if it is still the one of `token`, or with None if there is none yet.

    Returns:
        The new token, or None where somebody else was faster and nothing was written.

    Raises:
        StoreError: It cannot be written, or nobody can tell whether it was.
        UserError: The store is of a kind without conditional writes, or its client library is missing.
    """
    cell = _cell(store, path)
    for _ in range(_ATTEMPTS):
        try:
            return cell.write(data, token)
        except _Refused:
            found = cell.read()
            if found is not None and found.data == data:
                return found.token  # ours: the answer was lost on the way and the client library asked again
            if (found.token if found else None) != token:
                return None
    raise StoreError(f"cannot write {store.full_path(path)}: refused {_ATTEMPTS} times although nobody else wrote it")


def _cell(store: Store, path: str) -> _Cell:
    scheme, _, rest = store.full_path(path).partition("://")
    bucket, _, key = rest.partition("/")
    if scheme == "s3":
        return _S3Cell(bucket, key)
    if scheme == "gs":
        return _GcsCell(bucket, key)
    if store.local_path(path) is not None:
        return _LocalCell(store, path)
    raise UserError(f"--store {store.uri}: expected a local folder, s3:// or gs://, which can write conditionally")


def _required(module: str, extra: str, store: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"{store} needs {module}, which is not installed: pip install 'shelfmark[{extra}]'") from error


@dataclasses.dataclass(frozen=True, slots=True)
class _LocalCell:
    store: Store
    path: str

    def read(self) -> Versioned | None:
        try:
            data = self.store.read(self.path)
        except FileNotFoundError:
            return None
        return Versioned(data, hashlib.sha256(data).hexdigest())

    def write(self, data: bytes, token: str | None) -> str:
        with self._guarded():
            found = self.read()
            if (found.token if found else None) != token:
                raise _Refused
            self.store.replace(self.path, data)
        return hashlib.sha256(data).hexdigest()

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Holds a file that is locked but never replaced or deleted; the kernel lets go of a dead process's lock."""
        guard = f"{self.store.local_path(self.path)}.guard"
        try:
            os.makedirs(os.path.dirname(guard), exist_ok=True)
            descriptor = os.open(guard, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise StoreError(f"cannot write {guard}: {error}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


@functools.lru_cache(maxsize=4)
def _s3_client(endpoint: str) -> Any:
    boto3 = _required("boto3", "aws", "an s3:// store")
    config = importlib.import_module("botocore.config")
    retries = {"mode": "standard", "total_max_attempts": _ATTEMPTS}
    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint or None,
        config=config.Config(retries=retries, connect_timeout=10, read_timeout=20),
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _S3Cell:
    bucket: str
    key: str

    def read(self) -> Versioned | None:
        with self._explained("read"):
            for _ in range(_ATTEMPTS):
                answer = self._ask("get_object", ("NoSuchKey",))
                if answer is None:
                    return None
                try:
                    return Versioned(answer["Body"].read(), answer["ETag"])
                except self._errors().BotoCoreError as error:
                    broken = error  # cut short, or replaced meanwhile: boto3's own retries end before the body
            raise broken

    def write(self, data: bytes, token: str | None) -> str:
        condition = {"IfNoneMatch": "*"} if token is None else {"IfMatch": token}
        changed = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey")
        with self._explained("write"):
            answer = self._ask("put_object", changed, Body=data, **condition)
        if answer is None:
            raise _Refused
        return str(answer["ETag"])

    def _ask(self, operation: str, refusals: tuple[str, ...], **request: Any) -> dict[str, Any] | None:
        """The answer, or None where the server says one of `refusals`."""
        try:
            answer: dict[str, Any] = getattr(_s3_client(s3_endpoint()), operation)(
                Bucket=self.bucket, Key=self.key, **request
            )
        except self._errors().ClientError as error:
            if error.response["Error"]["Code"] in refusals:
                return None
            raise
        return answer

    def _errors(self) -> Any:
        return importlib.import_module("botocore.exceptions")

    @contextlib.contextmanager
    def _explained(self, action: str) -> Iterator[None]:
        _s3_client(s3_endpoint())  # says what is missing before anything of it is imported
        try:
            yield
        except (self._errors().ClientError, self._errors().BotoCoreError) as error:
            raise _one_line(action, f"s3://{self.bucket}/{self.key}", error) from error


@functools.lru_cache(maxsize=1)
def _gcs_client() -> Any:
    return _required("google.cloud.storage", "gcp", "a gs:// store").Client()


@dataclasses.dataclass(frozen=True, slots=True)
class _GcsCell:
    bucket: str
    key: str

    def read(self) -> Versioned | None:
        """Content and generation come in two answers, so the second is asked for the generation of the first."""
        with self._explained("read"):
            for _ in range(_ATTEMPTS):
                blob = _gcs_client().bucket(self.bucket).get_blob(self.key)
                if blob is None:
                    return None
                with contextlib.suppress(self._errors().NotFound, self._errors().PreconditionFailed):
                    data = blob.download_as_bytes(if_generation_match=blob.generation)
                    return Versioned(data, str(blob.generation))
        raise StoreError(f"cannot read gs://{self.bucket}/{self.key}: it changed {_ATTEMPTS} times while it was read")

    def write(self, data: bytes, token: str | None) -> str:
        with self._explained("write"):
            blob = _gcs_client().bucket(self.bucket).blob(self.key)
            try:
                blob.upload_from_string(data, if_generation_match=int(token or 0))
            except self._errors().PreconditionFailed as error:
                raise _Refused from error
            return str(blob.generation)

    def _errors(self) -> Any:
        return importlib.import_module("google.api_core.exceptions")

    @contextlib.contextmanager
    def _explained(self, action: str) -> Iterator[None]:
        _gcs_client()  # says what is missing before anything of it is imported
        auth = importlib.import_module("google.auth.exceptions")
        try:
            yield
        except (self._errors().GoogleAPIError, auth.GoogleAuthError, OSError) as error:
            raise _one_line(action, f"gs://{self.bucket}/{self.key}", error) from error


def _one_line(action: str, path: str, error: Exception) -> StoreError:
    return StoreError(f"cannot {action} {path}: {' '.join(str(error).split())}")
