"""A picture server on loopback whose pictures change, and that can be broken and mended."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class ChangingServer:
    """Serves what stands in `pictures`, used as a context manager.

    Attributes:
        pictures: Path -> bytes. Paths under /plain/ are served without an ETag.
        broken: While True every answer is 503.
        answers: Statuses answered, counted.
    """

    def __init__(self) -> None:
        self.pictures: dict[str, bytes] = {}
        self.broken = False
        self.answers: Counter[int] = Counter()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.owner = self  # type: ignore[attr-defined]

    def __enter__(self) -> ChangingServer:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def url(self, path: str) -> str:
        """The URL of a path."""
        return f"http://127.0.0.1:{self._server.server_address[1]}{path}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        owner: ChangingServer = self.server.owner  # type: ignore[attr-defined]
        picture = owner.pictures.get(self.path)
        if owner.broken:
            self.answer(503, b"")
        elif picture is None:
            self.answer(404, b"")
        elif self.path.startswith("/plain/"):
            self.answer(200, picture)
        else:
            tag = f'"{hashlib.md5(picture, usedforsecurity=False).hexdigest()}"'
            same = self.headers.get("If-None-Match") == tag
            self.answer(304 if same else 200, b"" if same else picture, tag)

    def answer(self, status: int, body: bytes, tag: str = "") -> None:
        self.server.owner.answers[status] += 1  # type: ignore[attr-defined]
        self.send_response(status)
        if tag:
            self.send_header("ETag", tag)
        if status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
