from __future__ import annotations

import os
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from fetch.fetcher import FetchOptions, ImageFetcher
from fetch.policy import ON_REQUEST
from fetch.source_version import Fetched, conditional_headers, is_told_by_source, of_file, of_object, of_response
from store.rejects import Reason, Rejected
from tests.support.http_server import jpeg

DATES = {"Last-Modified": "Sat, 01 Nov 2026 10:00:00 GMT", "Date": "Sat, 01 Nov 2026 11:00:00 GMT"}


def test_a_file_that_may_still_change_has_no_version():
    assert of_file(10, 5_000_000_000, 6.9) == ""
    assert of_file(10, 5_000_000_000, 7.0) == "file:10-5000000000"
    assert of_file(10, 9_000_000_000, 7.0) == "", "a clock behind the file system's"


@pytest.mark.parametrize(
    ("headers", "version", "asked_with"),
    [
        ({"ETag": '"abc"', **DATES}, 'etag:"abc"', {"If-None-Match": '"abc"'}),
        ({"ETag": 'W/"abc"'}, 'etag:W/"abc"', {"If-None-Match": 'W/"abc"'}),
        (DATES, f"modified:{DATES['Last-Modified']}", {"If-Modified-Since": DATES["Last-Modified"]}),
        ({**DATES, "Date": DATES["Last-Modified"]}, "", {}),
        ({"Last-Modified": DATES["Last-Modified"]}, "", {}),
        ({"Last-Modified": "yesterday", "Date": DATES["Date"]}, "", {}),
        ({"ETag": '"' + "x" * 600 + '"'}, "", {}),
        ({"ETag": '"a\r\nX: 1"'}, "", {}),
        ({"ETag": '"é"'}, "", {}),
        ({}, "", {}),
    ],
)
def test_what_a_server_says_of_a_version_is_what_it_is_asked_with(headers, version, asked_with):
    assert of_response(headers) == version
    assert conditional_headers(version) == asked_with


def test_a_catalogs_own_version_is_no_validator():
    assert not is_told_by_source("v17")
    assert conditional_headers("v17") == {}
    assert is_told_by_source(of_object("0cc175b9"))
    assert of_object(None) == ""


def test_a_file_is_read_again_only_when_it_changed(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(1))
    os.utime(path, ns=(0, 1_000_000_000_000))
    fetcher = ImageFetcher(FetchOptions(), ON_REQUEST, wall_clock=lambda: 2_000.0)
    first = fetcher.fetch_newer(str(path))
    assert first == Fetched(jpeg(1), f"file:{len(jpeg(1))}-1000000000000")
    assert fetcher.fetch_newer(str(path), first.source_version) is None
    assert fetcher.fetch_newer(f"file://{path}", first.source_version) is None
    os.utime(path, ns=(0, 1_000_000_000_001))
    assert fetcher.fetch_newer(str(path), first.source_version) is not None
    path.unlink()
    with pytest.raises(Rejected) as rejected:
        fetcher.fetch_newer(str(path), first.source_version)
    assert (rejected.value.reason, rejected.value.passing) == (Reason.NOT_FOUND, False)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    tag = '"one"'
    answers: ClassVar[Counter[int]] = Counter()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        asked = self.headers.get("If-None-Match")
        if self.path == "/moved":
            self.answer(302, b"", Location="/picture")
        elif self.path == "/always-304" or asked == self.tag:
            self.answer(304, None, ETag=self.tag)
        else:
            self.answer(200, jpeg(3), ETag=self.tag)

    def answer(self, status: int, body: bytes | None, **headers: str) -> None:
        self.answers[status] += 1
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if body is not None:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body or b"")


def test_a_server_is_asked_whether_its_picture_changed():
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    fetcher = ImageFetcher(FetchOptions(attempts=1), ON_REQUEST)
    url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        first = fetcher.fetch_newer(f"{url}/picture")
        assert first == Fetched(jpeg(3), 'etag:"one"')
        for path in ("/picture", "/moved"):
            assert fetcher.fetch_newer(url + path, first.source_version) is None
        assert fetcher.fetch_newer(f"{url}/picture", 'etag:"two"') == first
        with pytest.raises(Rejected) as rejected:  # nobody asked for it
            fetcher.fetch_newer(f"{url}/always-304")
        assert rejected.value.reason is Reason.FETCH_ERROR
        assert _Handler.answers == {200: 2, 304: 3, 302: 1}
    finally:
        fetcher.close()
        server.shutdown()
        server.server_close()
