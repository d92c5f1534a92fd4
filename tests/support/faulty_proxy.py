"""An HTTP proxy in front of a store's server that fails one request in twenty, some after they were carried out."""

from __future__ import annotations

import http.client
import itertools
import socket
import threading
import types
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FAULTS = (
    ("500", "before"),
    ("dropped", "after"),
    ("503", "before"),
    ("dropped", "before"),
    ("503", "after"),
    ("500", "after"),
)
"""In this order, over and over; "after": the server has done what was asked, and the client does not hear of it."""

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding"}


class FaultyProxy:
    """A threaded HTTP/1.1 proxy for one server, used as a context manager.

    Attributes:
        requests: How many came.
        faults: How many failed, by fault.
        lost_answers: Requests ("METHOD path") that the server carried out and the client was not told of.
    """

    def __init__(self, upstream_port: int, every: int = 20) -> None:
        self.requests = 0
        self.faults: Counter[tuple[str, str]] = Counter()
        self.lost_answers: list[str] = []
        self._every = every
        self._upstream_port = upstream_port
        self._sequence = itertools.cycle(FAULTS)
        self._lock = threading.Lock()

    def __enter__(self) -> FaultyProxy:
        handler = type("Handler", (_Handler,), {"proxy": self, "upstream_port": self._upstream_port})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def next_fault(self, request: str) -> tuple[str, str]:
        """What happens to a request; ("", "") for nineteen of twenty."""
        with self._lock:
            self.requests += 1
            if self.requests % self._every:
                return "", ""
            fault = next(self._sequence)
            self.faults[fault] += 1
            if fault[1] == "after":
                self.lost_answers.append(request)
            return fault


class _Handler(BaseHTTPRequestHandler):
    proxy: FaultyProxy
    upstream_port: int
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _pass_on(self) -> None:
        kind, when = self.proxy.next_fault(f"{self.command} {self.path}")
        body = self._body()
        if when != "before":
            status, headers, answer = self._ask(body)
        if not kind:
            self._answer(status, headers, answer)
        elif kind == "dropped":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        else:
            self._answer(int(kind), [("Content-Type", "text/plain")], b"")

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = _pass_on  # noqa: N815

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(pieces)

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """Host stays as the client wrote it, as S3's signatures cover it."""
        upstream = http.client.HTTPConnection("127.0.0.1", self.upstream_port, timeout=60)
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in {*_HOP_BY_HOP, "content-length", "expect"}:
                upstream.putheader(name, value)
        upstream.putheader("Content-Length", str(len(body)))
        upstream.endheaders(body)
        response = upstream.getresponse()
        answer = response.read()
        upstream.close()
        return response.status, response.getheaders(), answer

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        announced = {name.lower() for name, _ in headers}
        for name, value in headers:
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        if "content-length" not in announced and status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Says nothing."""
