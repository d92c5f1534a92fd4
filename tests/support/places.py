"""Stores of each kind with files put in and looked at past the code under test: a folder, a bucket on either server."""

from __future__ import annotations

import dataclasses
import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from tests.support import gcs_server as gcs
from tests.support import s3_server as s3

_NUMBERS = itertools.count()


class Place(Protocol):
    """One store."""

    @property
    def uri(self) -> str:
        """What `--store` is given."""

    def put(self, path: str, data: bytes) -> None:
        """Writes a file."""

    def get(self, path: str) -> bytes:
        """Reads a file that is there."""

    def sizes(self) -> dict[str, int]:
        """Sizes of all files in bytes, by path."""


NewPlace = Callable[[], Place]


@dataclasses.dataclass(frozen=True, slots=True)
class LocalPlace:
    """A folder."""

    folder: Path

    @property
    def uri(self) -> str:
        """Its path."""
        return str(self.folder)

    def put(self, path: str, data: bytes) -> None:
        """Writes a file."""
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_bytes(data)

    def get(self, path: str) -> bytes:
        """Reads a file."""
        return (self.folder / path).read_bytes()

    def sizes(self) -> dict[str, int]:
        """All files."""
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        return {path.relative_to(self.folder).as_posix(): path.stat().st_size for path in files}


@dataclasses.dataclass(frozen=True, slots=True)
class S3Place:
    """A bucket."""

    client: Any
    bucket: str

    @property
    def uri(self) -> str:
        """Of a folder in it."""
        return f"s3://{self.bucket}/store"

    def put(self, path: str, data: bytes) -> None:
        """Writes an object."""
        self.client.put_object(Bucket=self.bucket, Key=f"store/{path}", Body=data)

    def get(self, path: str) -> bytes:
        """Reads an object."""
        return bytes(self.client.get_object(Bucket=self.bucket, Key=f"store/{path}")["Body"].read())

    def sizes(self) -> dict[str, int]:
        """All objects."""
        listed = self.client.list_objects_v2(Bucket=self.bucket, Prefix="store/")
        found = {entry["Key"].removeprefix("store/"): entry["Size"] for entry in listed.get("Contents", [])}
        return {path: size for path, size in found.items() if path and not path.endswith("/")}


@dataclasses.dataclass(frozen=True, slots=True)
class GcsPlace:
    """A bucket."""

    bucket: Any

    @property
    def uri(self) -> str:
        """Of a folder in it."""
        return f"gs://{self.bucket.name}/store"

    def put(self, path: str, data: bytes) -> None:
        """Writes an object."""
        self.bucket.blob(f"store/{path}").upload_from_string(data)

    def get(self, path: str) -> bytes:
        """Reads an object."""
        return bytes(self.bucket.blob(f"store/{path}").download_as_bytes())

    def sizes(self) -> dict[str, int]:
        """All objects."""
        found = {blob.name.removeprefix("store/"): blob.size for blob in self.bucket.list_blobs(prefix="store/")}
        return {path: size for path, size in found.items() if path and not path.endswith("/")}


def local_places(folder: Path) -> NewPlace:
    """Makes folders below `folder`; only the newest is kept."""

    def new() -> Place:
        number = next(_NUMBERS)
        for old in folder.glob("store-*"):
            shutil.rmtree(old, ignore_errors=True)
        place = LocalPlace(folder / f"store-{number}")
        os.makedirs(place.folder)
        return place

    return new


def s3_places(url: str) -> NewPlace:
    """Makes buckets."""
    client = s3.s3_client(url)

    def new() -> Place:
        bucket = _bucket_name()
        client.create_bucket(Bucket=bucket)
        return S3Place(client, bucket)

    return new


def gcs_places(url: str) -> NewPlace:
    """Makes buckets."""
    client = gcs.gcs_client(url)
    return lambda: GcsPlace(client.create_bucket(_bucket_name()))


def _bucket_name() -> str:
    return f"test-{os.getpid()}-{next(_NUMBERS):06}"


def bucket_of(place: Place) -> str:
    """The name of the bucket that is a store's alone."""
    return place.uri.split("/")[2]


def fill(place: Place, files: dict[str, bytes]) -> None:
    """Puts files into a store."""
    for path, data in files.items():
        place.put(path, data)


def content_of(place: Place) -> dict[str, bytes]:
    """Every file of a store."""
    return {path: place.get(path) for path in place.sizes()}
