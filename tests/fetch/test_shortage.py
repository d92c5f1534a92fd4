"""A process out of descriptors or memory: no picture is to blame, whatever the scheme; with room again it goes on."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from fetch import fetcher as fetch_module
from fetch.fetcher import FetchOptions, ImageFetcher
from store import shortage
from store.rejects import Reason, Rejected
from store.shortage import Lack, ShortageError
from tests.support.fetching import opened
from tests.support.http_server import PictureServer, jpeg

ROOT = Path(__file__).resolve().parent.parent.parent
OPTIONS = FetchOptions(connect_timeout_s=2, read_timeout_s=5, deadline_s=10, backoff_s=0.01, max_backoff_s=0.02)

# Fetches each URI with every descriptor taken, and again with all of them free.
STARVED = """
import encodings.idna, json, os, resource, sys
from store.rejects import Rejected
from store.shortage import ShortageError
from fetch.fetcher import FetchOptions, ImageFetcher
from fetch.policy import ON_REQUEST

def outcome(uri):
    try:
        return len(fetcher.fetch(uri))
    except (Rejected, ShortageError) as error:
        return f"{type(error).__name__} {error}"

fetcher = ImageFetcher(FetchOptions(connect_timeout_s=2, deadline_s=10, backoff_s=0.01), ON_REQUEST)
uris = sys.argv[1:]
before = [outcome(uri) for uri in uris]
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
held = []
while True:
    try:
        held.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        break
starved = [outcome(uri) for uri in uris for _ in range(2)]  # the first gives back what idle connections hold
while True:
    try:
        held.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        break
starved += [outcome(uri) for uri in uris]
for descriptor in held:
    os.close(descriptor)
print(json.dumps([before, starved, [outcome(uri) for uri in uris]]))
"""


@pytest.fixture(scope="module")
def server() -> Iterator[PictureServer]:
    with PictureServer() as running:
        yield running


@pytest.fixture
def fetcher() -> Iterator[ImageFetcher]:
    with opened(OPTIONS) as made:
        yield made


def test_no_picture_is_rejected_for_want_of_descriptors(server: PictureServer, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(3))
    by_name = server.url("/ok/4.jpg").replace("127.0.0.1", "localhost")
    uris = [str(tmp_path / "a.jpg"), server.url("/ok/5.jpg"), by_name]
    done = subprocess.run(
        [sys.executable, "-c", STARVED, *uris], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    before, starved, after = json.loads(done.stdout)
    assert before == after
    assert all(isinstance(found, int) for found in before)
    failed = [found for found in starved if not isinstance(found, int)]
    assert len(failed) >= len(uris)
    assert {found[:26] for found in failed} == {"ShortageError this process"}


def test_without_descriptors_a_name_that_cannot_be_resolved_is_not_unknown(
    fetcher: ImageFetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(Rejected, match="fetch_error"):
        fetcher.fetch("http://pictures.example/a.jpg")
    monkeypatch.setattr(shortage, "is_short", lambda lack: True)
    with pytest.raises(ShortageError, match="ulimit -n"):
        fetcher.fetch("http://pictures.example/a.jpg")


@pytest.mark.parametrize(
    ("error", "lack"),
    [
        (OSError(errno.ENOMEM, "x"), Lack.MEMORY),
        (OSError(errno.ENOBUFS, "x"), Lack.MEMORY),
        (OSError(errno.ENFILE, "x"), Lack.DESCRIPTORS),
        (MemoryError(), Lack.MEMORY),
    ],
    ids=repr,
)
def test_other_shortages_on_every_way_to_a_picture(
    error: Exception, lack: Lack, fetcher: ImageFetcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    def fail_in_beam(*_: object) -> None:
        raise BeamIOError("Checksum operation failed", {"mem://b/a.jpg": error})

    (tmp_path / "a.jpg").write_bytes(jpeg(3))
    monkeypatch.setattr(socket.socket, "connect", fail)
    monkeypatch.setattr(os, "read", fail)
    monkeypatch.setattr(FileSystems, "get_filesystem", lambda uri: None)
    monkeypatch.setattr(FileSystems, "checksum", fail_in_beam)
    for uri in (str(tmp_path / "a.jpg"), "http://127.0.0.1:1/a.jpg", "mem://b/a.jpg"):
        with pytest.raises(ShortageError) as caught:
            fetcher.fetch(uri)
        assert caught.value.lack is lack, uri


def test_a_client_that_could_not_be_loaded_for_want_of_descriptors_is_not_missing(
    fetcher: ImageFetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str) -> None:
        raise ImportError("libx.so: cannot open shared object file: Too many open files")

    fetch_module._missing_package.cache_clear()
    monkeypatch.setattr("importlib.import_module", fail)
    with monkeypatch.context() as short:
        short.setattr(shortage, "is_short", lambda lack: True)
        with pytest.raises(ShortageError):
            fetcher.fetch("s3://b/a.jpg")
    with pytest.raises(Rejected) as caught:
        fetcher.fetch("s3://b/a.jpg")
    assert caught.value.reason is Reason.UNSUPPORTED_SCHEME
    fetch_module._missing_package.cache_clear()


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EBUSY])
def test_a_file_that_is_busy_may_be_had_tomorrow(
    number: int, fetcher: ImageFetcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, "busy")

    (tmp_path / "a.jpg").write_bytes(jpeg(3))
    monkeypatch.setattr(os, "read", fail)
    with pytest.raises(Rejected) as caught:
        fetcher.fetch(str(tmp_path / "a.jpg"))
    assert caught.value.passing
