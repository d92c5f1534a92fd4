from __future__ import annotations

from pathlib import Path

import pyarrow.fs
import pytest

from store.errors import UserError
from store.filesystem import open_filesystem, s3_endpoint


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)


def test_a_path_is_a_local_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    filesystem, root = open_filesystem("a/../store")
    assert isinstance(filesystem, pyarrow.fs.LocalFileSystem)
    assert root == str(tmp_path / "store")


def test_an_object_store_is_opened_at_its_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    filesystem, root = open_filesystem("s3://bucket/shop/store")
    assert isinstance(filesystem, pyarrow.fs.S3FileSystem)
    assert (filesystem.region, root) == ("eu-west-1", "bucket/shop/store")


@pytest.mark.parametrize("uri", ["s3://", "s3:///folder", "gs://", "gs:///folder"])
def test_a_store_without_a_bucket_is_refused(uri: str) -> None:
    with pytest.raises(UserError, match=f"^--store {uri}: expected a bucket's name after ://$"):
        open_filesystem(uri)


def test_a_kind_of_store_that_nobody_knows_is_refused() -> None:
    with pytest.raises(UserError, match="nosuch"):
        open_filesystem("nosuch://bucket/store")


def test_the_server_of_s3_goes_before_that_of_all_services(monkeypatch: pytest.MonkeyPatch) -> None:
    assert s3_endpoint() == ""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://all:1")
    assert s3_endpoint() == "http://all:1"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://s3:1")
    assert s3_endpoint() == "https://s3:1"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "s3:1")
    with pytest.raises(UserError, match=r"^AWS_ENDPOINT_URL: expected http://host:port or https://host, found s3:1$"):
        s3_endpoint()
