from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetch import fetcher as fetch_module
from fetch.fetcher import FetchOptions, ImageFetcher, resolve_uri
from fetch.policy import ON_REQUEST
from fetch.source_version import Fetched
from store.rejects import Reason, Rejected
from tests.support.fetching import opened, rejection
from tests.support.http_server import jpeg

MIB = 1 << 20
OPTIONS = FetchOptions(max_image_bytes=2 * MIB)


@pytest.fixture
def fetcher() -> Iterator[ImageFetcher]:
    with opened(OPTIONS) as made:
        yield made


# --- options


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_image_bytes", 0), ("deadline_s", 0), ("attempts", 0), ("backoff_s", -1), ("connections_per_host", -3)],
)
def test_options_out_of_range_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name}.*found {value}"):
        FetchOptions(**{name: value})  # type: ignore[arg-type]


def test_the_largest_picture_must_fit_the_budget() -> None:
    with pytest.raises(ValueError, match="max_in_flight_bytes"):
        FetchOptions(max_image_bytes=2 * MIB, max_in_flight_bytes=MIB)


def test_options_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(OPTIONS)) == OPTIONS


# --- URIs


@pytest.mark.parametrize(
    ("uri", "base", "expected"),
    [
        ("a/b.jpg", "/cat", "/cat/a/b.jpg"),
        ("a.jpg", "cat", "cat/a.jpg"),
        ("/x/a.jpg", "/cat", "/x/a.jpg"),
        ("C:\\x#1?y%20.jpg", "/cat", "/cat/C:\\x#1?y%20.jpg"),
        ("red:1.jpg", "/cat", "/cat/red:1.jpg"),
        ("http://h/a.jpg", "/cat", "http://h/a.jpg"),
        ("gs://b/a.jpg", "http://h/cat", "gs://b/a.jpg"),
        ("a b%20#.jpg", "file:///my%20cat/", "/my cat/a b%20#.jpg"),
        ("a.jpg", "file://localhost/cat", "/cat/a.jpg"),
        ("img/a.jpg", "http://h/cat", "http://h/cat/img/a.jpg"),
        ("img/a.jpg", "http://h/cat/", "http://h/cat/img/a.jpg"),
        ("../a.jpg?v=2", "https://h/cat/x", "https://h/cat/a.jpg?v=2"),
        ("red:1.jpg", "http://h/cat", "http://h/cat/red:1.jpg"),
        ("/a.jpg", "http://h/cat", "http://h/a.jpg"),
        ("//cdn/a.jpg", "https://h/cat", "https://cdn/a.jpg"),
        ("img/a.jpg", "gs://b/cat/", "gs://b/cat/img/a.jpg"),
        ("../img/a.jpg", "s3://b/cat", "s3://b/img/a.jpg"),
        ("a//b.jpg", "gs://b/cat", "gs://b/cat/a//b.jpg"),
        ("/mnt/a.jpg", "gs://b/cat", "/mnt/a.jpg"),
    ],
)
def test_a_uri_is_relative_to_the_catalogs_folder(uri: str, base: str, expected: str) -> None:
    assert resolve_uri(uri, base) == expected


@pytest.mark.parametrize("name", ["a b.jpg", "a:b.jpg", "C:\\a.jpg", "a#1.jpg", "a?b=c.jpg", "100%.jpg", "é%20.jpg"])
def test_an_odd_file_name_is_found_by_path_and_by_file_uri(tmp_path: Path, fetcher: ImageFetcher, name: str) -> None:
    (tmp_path / name).write_bytes(b"picture")
    assert fetcher.fetch(resolve_uri(name, str(tmp_path))) == b"picture"
    assert fetcher.fetch(f"file://{urllib.parse.quote(str(tmp_path / name))}") == b"picture"
    assert fetcher.fetch(f"FILE://localhost{urllib.parse.quote(str(tmp_path / name))}") == b"picture"


def test_a_file_uri_needs_an_absolute_path(fetcher: ImageFetcher) -> None:
    rejected = rejection(fetcher, "file://pictures/a.jpg")
    assert rejected.reason is Reason.FETCH_ERROR
    assert "file:///" in rejected.detail


# --- local files


def test_a_file_up_to_the_limit_is_read_and_one_byte_more_is_not(tmp_path: Path, fetcher: ImageFetcher) -> None:
    data = random.Random(3).randbytes(OPTIONS.max_image_bytes)
    (tmp_path / "largest").write_bytes(data)
    (tmp_path / "larger").write_bytes(data + b"x")
    (tmp_path / "empty").write_bytes(b"")
    assert fetcher.fetch(str(tmp_path / "largest")) == data
    assert fetcher.fetch(str(tmp_path / "empty")) == b""
    assert rejection(fetcher, str(tmp_path / "larger")).reason is Reason.TOO_LARGE


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("missing.jpg", Reason.NOT_FOUND),
        ("", Reason.NOT_FOUND),
        ("a\0b.jpg", Reason.NOT_FOUND),
        ("/etc/passwd/a.jpg", Reason.NOT_FOUND),
        ("n" * 5000, Reason.FETCH_ERROR),
        ("/dev/zero", Reason.FETCH_ERROR),
        ("/", Reason.FETCH_ERROR),
    ],
)
def test_what_is_not_a_readable_file_is_rejected(fetcher: ImageFetcher, path: str, reason: Reason) -> None:
    rejected = rejection(fetcher, path)
    assert rejected.reason is reason
    assert len(rejected.detail) < 300


def test_a_pipe_without_a_writer_does_not_hang(tmp_path: Path, fetcher: ImageFetcher) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert rejection(fetcher, str(tmp_path / "pipe")).reason is Reason.FETCH_ERROR


def test_an_unreadable_file_is_forbidden(
    tmp_path: Path, fetcher: ImageFetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:  # file modes do not bind root, whom containers run tests as
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    assert rejection(fetcher, str(tmp_path / "a.jpg")).reason is Reason.FORBIDDEN


def test_short_reads_are_continued_and_a_shrunk_file_is_rejected(
    tmp_path: Path, fetcher: ImageFetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    real_read = os.read
    monkeypatch.setattr(os, "read", lambda fd, size: real_read(fd, min(size, 3)))
    assert fetcher.fetch(str(tmp_path / "a")) == b"0123456789"
    monkeypatch.setattr(os, "read", lambda fd, size: b"")
    assert rejection(fetcher, str(tmp_path / "a")).reason is Reason.FETCH_ERROR


@given(st.text(max_size=300))
def test_no_local_name_raises_anything_but_a_reject(name: str) -> None:
    with pytest.raises(Rejected):
        ImageFetcher(OPTIONS, ON_REQUEST).fetch("/nowhere-at-all/" + name)


# --- other schemes


@pytest.mark.parametrize("uri", ["ftp://user:secret@h/a.jpg", "nope://h/a.jpg", "javascript://x"])
def test_an_unknown_scheme_is_named(fetcher: ImageFetcher, uri: str) -> None:
    rejected = rejection(fetcher, uri)
    assert rejected.reason is Reason.UNSUPPORTED_SCHEME
    assert uri.partition(":")[0] + "://" in rejected.detail
    assert "secret" not in rejected.detail


@pytest.mark.parametrize(("scheme", "extra"), [("gs", "[gcp]"), ("s3", "[aws]"), ("azfs", "[azure]")])
def test_a_cloud_scheme_names_the_extra_it_needs(
    fetcher: ImageFetcher, monkeypatch: pytest.MonkeyPatch, scheme: str, extra: str
) -> None:
    module = fetch_module._CLIENT_OF_SCHEME[scheme][0]
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    fetch_module._missing_package.cache_clear()
    rejected = rejection(fetcher, f"{scheme}://bucket/a.jpg")
    fetch_module._missing_package.cache_clear()
    assert rejected.reason is Reason.UNSUPPORTED_SCHEME
    assert f"{scheme}://" in rejected.detail
    assert extra in rejected.detail


class StatusError(Exception):
    """As cloud clients raise: the status is an attribute."""

    def __init__(self, code: int) -> None:
        super().__init__("https://user:secret@endpoint")
        self.code = code


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FileNotFoundError(), Reason.NOT_FOUND),
        (StatusError(404), Reason.NOT_FOUND),
        (StatusError(403), Reason.FORBIDDEN),
        (TimeoutError(), Reason.TIMEOUT),
        (StatusError(500), Reason.FETCH_ERROR),
        (KeyError("x"), Reason.FETCH_ERROR),
    ],
)
def test_what_a_file_system_raises_becomes_a_reason(
    fetcher: ImageFetcher, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: Reason
) -> None:
    filesystems = pytest.importorskip("apache_beam.io.filesystems").FileSystems

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(filesystems, "get_filesystem", lambda _: None)
    monkeypatch.setattr(filesystems, "checksum", lambda _: "c")
    monkeypatch.setattr(filesystems, "open", fail)
    rejected = rejection(fetcher, "memory://a.jpg")
    assert rejected.reason is reason
    assert "secret" not in rejected.detail


def test_a_file_system_is_read_within_the_limit(
    tmp_path: Path, fetcher: ImageFetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    filesystems = pytest.importorskip("apache_beam.io.filesystems").FileSystems
    monkeypatch.setattr(filesystems, "get_filesystem", lambda _: None)
    monkeypatch.setattr(filesystems, "open", lambda uri, **_: open("/" + uri.split(":///")[1], "rb"))  # noqa: SIM115
    monkeypatch.setattr(filesystems, "checksum", lambda uri: "v2")
    (tmp_path / "a.jpg").write_bytes(jpeg(7))
    (tmp_path / "big").write_bytes(bytes(OPTIONS.max_image_bytes + 1))
    assert fetcher.fetch(f"memory://{tmp_path}/a.jpg") == jpeg(7)
    assert rejection(fetcher, f"memory://{tmp_path}/big").reason is Reason.TOO_LARGE
    fetched = fetcher.fetch_newer(f"memory://{tmp_path}/a.jpg", "object:v1")
    assert fetched == Fetched(jpeg(7), "object:v2")
    assert fetcher.fetch_newer(f"memory://{tmp_path}/a.jpg", "object:v2") is None


def test_importing_the_module_does_not_import_beam() -> None:
    code = "import sys, fetch.fetcher; sys.exit('apache_beam' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
