"""Single objects on s3:// and gs://, by Amazon's and Google's own clients: conditional writes, whole uploads.

Arrow's file systems have neither: a stream that is given up half-way leaves an object of what was written so far.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from store.errors import StoreError, UserError
from store.filesystem import s3_endpoint

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


class OtherWriter(Exception):
    """The file is not the one of the token, or was written by somebody else at the same time."""


class StoredObject(Protocol):
    """One object, whether or not it is there."""

    def read(self) -> Versioned | None:
        """What it holds; None where there is none. Raises StoreError where nobody can tell."""

    def write(self, data: bytes, token: str | None) -> str:
        """Writes it if it is still the one of `token`, or with None if there is none.

        Returns:
            The new token.

        Raises:
            OtherWriter: It is another one.
            StoreError: It could not be written, or nobody can tell whether it was.
        """

    def upload(self, local: Path) -> None:
        """Writes it from a local file, whole or not at all. Raises StoreError."""


def find_object(uri: str) -> StoredObject | None:
    """The object of an s3:// or gs:// URI; None for any other.

    Raises:
        UserError: The client library that it takes is not installed.
    """
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme == "s3":
        return _S3Object(bucket, key)
    return _GcsObject(bucket, key) if scheme == "gs" else None


def _required(module: str, extra: str, store: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"{store} needs {module}, which is not installed: pip install 'shelfmark[{extra}]'") from error


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
class _S3Object:
    bucket: str
    key: str

    def read(self) -> Versioned | None:
        with self._explained("read"):
            for _ in range(_ATTEMPTS):
                try:
                    answer = self._ask("get_object", ("NoSuchKey",))
                except self._errors().ClientError as error:
                    if error.response["Error"]["Code"] != "404":
                        raise
                    broken = error  # what is not there, the key or the bucket, was cut off
                    continue
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
            raise OtherWriter
        return str(answer["ETag"])

    def upload(self, local: Path) -> None:
        transfer = importlib.import_module("boto3.exceptions")
        with self._explained("write"):
            try:
                _s3_client(s3_endpoint()).upload_file(str(local), self.bucket, self.key)
            except transfer.Boto3Error as error:
                raise _one_line("write", f"s3://{self.bucket}/{self.key}", error) from error

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
        except (self._errors().ClientError, self._errors().BotoCoreError, OSError) as error:
            raise _one_line(action, f"s3://{self.bucket}/{self.key}", error) from error


@functools.lru_cache(maxsize=1)
def _gcs_client() -> Any:
    return _required("google.cloud.storage", "gcp", "a gs:// store").Client()


@dataclasses.dataclass(frozen=True, slots=True)
class _GcsObject:
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
                raise OtherWriter from error
            return str(blob.generation)

    def upload(self, local: Path) -> None:
        with self._explained("write"):
            _gcs_client().bucket(self.bucket).blob(self.key).upload_from_filename(str(local))

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
