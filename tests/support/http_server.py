"""A picture server on loopback that misbehaves on request and counts what is asked of it."""

from __future__ import annotations

import functools
import gzip
import io
import itertools
import threading
import urllib.parse
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image


@functools.cache
def jpeg(number: int) -> bytes:
    """A small JPEG; different numbers below 2**24 give different bytes."""
    picture = Image.new("RGB", (32, 24), (number % 256, number // 256 % 256, number // 65536 % 256))
    picture.paste((250, 240, 90), (number % 16, 4, number % 16 + 12, 16))
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", comment=str(number).encode())
    return encoded.getvalue()


ENOUGH_S = 120.0
"""Bounds a test that fails, on a machine that other programs use too; no test that passes waits for it."""


class PictureServer:
    """A threaded HTTP/1.1 server, used as a context manager.

    Routes (all GET; any may be followed by /anything, which is counted separately):
        /ok/<n>.jpg: `jpeg(n)`; with ?together= not before so many requests were being answered at once.
        /redirect: 301, or ?code=, to /ok/1.jpg, or to ?to=. /loop: 302 to itself. /to-file: 302 to file:///etc/passwd.
        /status/<code>: that status.
        /429-then-200, /500-then-200, /reset-then-200, /truncated-then-200: the first request for a path fails.
        /slow?ms=: jpeg(1) after that many milliseconds. /stall: never answers.
        /truncated: half of the announced body. /lying-short: more than announced. /lying-huge: announces 1 TB.
        /endless: zeros for ever. /big?bytes=: that many zeros, announced unless ?chunked=1.
        /drip: a byte every 10 ms for ever. /drip-head: the same inside the response's head.
        /endless-100: interim responses for ever. /endless-trailers: trailers for ever.
        /gzip: jpeg(1), gzipped. /gzip-bomb: 256 MiB of zeros, gzipped. /gzip-broken: not gzip.
        /auth: jpeg(1) if asked by user:secret, else 401.

    Attributes:
        requests: Requests per path, query string excluded.
        hangups: Streams per path that the client closed before their end.
        peak_concurrency: Most requests being answered at once.
        connections: Connections accepted.
        user_agents: Every User-Agent seen.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.host = host
        self.requests: Counter[str] = Counter()
        self.hangups: Counter[str] = Counter()
        self.user_agents: set[str] = set()
        self.peak_concurrency = 0
        self.connections = 0
        self.closing = threading.Event()
        self._concurrency = 0
        self._changed = threading.Condition()
        self._server: _Server | None = None

    def __enter__(self) -> PictureServer:
        self._server = _Server(self)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def url(self, path: str) -> str:
        """The URL of a route, for example url("/ok/1.jpg")."""
        return f"http://{self.host}:{self.port}{path}"

    @property
    def port(self) -> int:
        """The port listened on."""
        assert self._server is not None
        return self._server.server_address[1]

    def wait_for_hangup(self, path: str) -> bool:
        """Whether the client closed a stream from `path` before its end."""
        with self._changed:
            return self._changed.wait_for(lambda: self.hangups[path] > 0, ENOUGH_S)

    def wait_for_requests(self, path: str, count: int) -> bool:
        """Whether `path` was asked for so often."""
        with self._changed:
            return self._changed.wait_for(lambda: self.requests[path] >= count, ENOUGH_S)

    def wait_for_company(self, count: int) -> bool:
        """Whether so many requests were being answered at once."""
        with self._changed:
            return self._changed.wait_for(lambda: self.peak_concurrency >= count, ENOUGH_S)

    def begin(self, path: str, user_agent: str) -> int:
        """Counts a request; how many there were for this path."""
        with self._changed:
            self.requests[path] += 1
            self.user_agents.add(user_agent)
            self._concurrency += 1
            self.peak_concurrency = max(self.peak_concurrency, self._concurrency)
            self._changed.notify_all()
            return self.requests[path]

    def end(self, path: str, *, hung_up: bool) -> None:
        """Counts the end of a request."""
        with self._changed:
            self._concurrency -= 1
            self.hangups[path] += hung_up
            self._changed.notify_all()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, owner: PictureServer) -> None:
        self.owner = owner
        super().__init__((owner.host, 0), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.owner.connections += 1
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are the point of these tests, not news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        split = urllib.parse.urlsplit(self.path)
        self.query = dict(urllib.parse.parse_qsl(split.query))
        self.count = self.server.owner.begin(split.path, self.headers.get("User-Agent", ""))
        self.name, _, self.rest = split.path[1:].partition("/")
        hung_up = False
        try:
            _ROUTES.get(self.name, lambda handler: handler.reply(404))(self)
        except (BrokenPipeError, ConnectionResetError):
            hung_up = True
            self.close_connection = True
        finally:
            self.server.owner.end(split.path, hung_up=hung_up)

    def reply(self, status: int, body: bytes = b"", length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def reply_broken(self, body: bytes, length: int, **headers: str) -> None:
        self.reply(200, body, length, **headers)
        self.close_connection = True

    def pause(self, seconds: float) -> None:
        if self.server.owner.closing.wait(seconds):
            raise ConnectionResetError

    def stream(self, head: bytes, piece: bytes, pause_s: float = 0.0) -> None:
        """Sends `head`, then `piece` until the client hangs up or the server closes."""
        self.close_connection = True
        self.wfile.write(head)
        while not self.server.owner.closing.is_set():
            self.wfile.write(piece)
            self.pause(pause_s) if pause_s else None

    def ok(self) -> None:
        if "together" in self.query:
            self.server.owner.wait_for_company(int(self.query["together"]))
        self.reply(200, jpeg(int(self.rest.rpartition("/")[2].removesuffix(".jpg") or 1)), Content_Type="image/jpeg")

    def big(self) -> None:
        size = int(self.query["bytes"])
        chunked = "chunked" in self.query
        self.send_response(200)
        self.send_header(*(("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(size))))
        self.end_headers()
        for start in itertools.count(0, 1 << 16):
            piece = bytes(min(1 << 16, max(size - start, 0)))
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            if not piece:
                return

    def then_ok(self, fail: Callable[[], None]) -> None:
        if self.count == 1:
            fail()
        else:
            self.reply(200, jpeg(1))

    def reset(self) -> None:
        self.close_connection = True

    def auth(self) -> None:
        expected = "Basic dXNlcjpzZWNyZXQ="  # user:secret
        self.reply(200 if self.headers.get("Authorization") == expected else 401, jpeg(1))

    def slow(self) -> None:
        self.pause(int(self.query["ms"]) / 1000)
        self.reply(200, jpeg(1))


@functools.cache
def _gzip_bomb() -> bytes:
    return gzip.compress(bytes(256 << 20), compresslevel=1)


_HEAD = b"HTTP/1.1 200 OK\r\n"
_BODY = _HEAD + b"Connection: close\r\n\r\n"
_ROUTES: dict[str, Callable[[_Handler], None]] = {
    "ok": _Handler.ok,
    "redirect": lambda h: h.reply(int(h.query.get("code", 301)), b"moved", Location=h.query.get("to", "/ok/1.jpg")),
    "loop": lambda h: h.reply(302, Location="/loop"),
    "to-file": lambda h: h.reply(302, Location="file:///etc/passwd"),
    "status": lambda h: h.reply(int(h.rest), b"no picture"),
    "429-then-200": lambda h: h.then_ok(lambda: h.reply(429, Retry_After="0")),
    "500-then-200": lambda h: h.then_ok(lambda: h.reply(500)),
    "reset-then-200": lambda h: h.then_ok(h.reset),
    "truncated-then-200": lambda h: h.then_ok(lambda: h.reply_broken(jpeg(1)[:100], len(jpeg(1)))),
    "slow": _Handler.slow,
    "stall": lambda h: h.pause(3600),
    "truncated": lambda h: h.reply_broken(jpeg(1)[: len(jpeg(1)) // 2], len(jpeg(1))),
    "lying-short": lambda h: h.reply(200, jpeg(1), 10),
    "lying-huge": lambda h: h.reply_broken(jpeg(1), 10**12),
    "endless": lambda h: h.stream(_BODY, bytes(1 << 16)),
    "big": _Handler.big,
    "drip": lambda h: h.stream(_BODY, b"\xff", 0.01),
    "drip-head": lambda h: h.stream(_HEAD + b"X-Long: ", b"x", 0.01),
    "endless-100": lambda h: h.stream(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "endless-trailers": lambda h: h.stream(
        _HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n", b"X-Trailer: x\r\n" * 100
    ),
    "gzip": lambda h: h.reply(200, gzip.compress(jpeg(1)), Content_Encoding="gzip"),
    "gzip-bomb": lambda h: h.reply(200, _gzip_bomb(), Content_Encoding="gzip"),
    "gzip-broken": lambda h: h.reply(200, b"not gzip at all", Content_Encoding="gzip"),
    "auth": _Handler.auth,
}
