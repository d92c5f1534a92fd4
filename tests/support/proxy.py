"""An HTTP proxy in front of a store's server, in which requests are refused, lost, cut short, held and acted upon."""

from __future__ import annotations

import http.client
import re
import socket
import threading
import types
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, NamedTuple

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding"}


class Fault(NamedTuple):
    """What goes wrong with a request.

    Attributes:
        kind: A status ("500"), "dropped" (no answer), "truncated" (half of one), or "" for nothing.
        when: "before" or "after" the server has done what was asked.
    """

    kind: str
    when: str


NO_FAULT = Fault("", "")

Answer = tuple[int, list[tuple[str, str]], bytes]
"""Status, headers, body."""


class Proxy:
    """A threaded HTTP/1.1 proxy for one server, used as a context manager; subclasses say what it does to a request.

    Attributes:
        finished_uploads: Google's resumable uploads that went through, by the request that did it.
    """

    def __init__(self, upstream_port: int) -> None:
        self._upstream_port = upstream_port
        self.finished_uploads: dict[str, Answer] = {}

    def __enter__(self) -> Proxy:
        handler = type("Handler", (_Handler,), {"proxy": self, "upstream_port": self._upstream_port})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def next_fault(self, request: str) -> tuple[Fault, Callable[[], object]]:
        """What happens to a request ("METHOD path"), and what is called at that moment."""
        raise NotImplementedError


Lasting = Literal["once", "same", "all"]
"""A fault of one request; of that request however often it is sent; of every request from that one on."""


class Watch:
    """What happens to one of a store's requests, and what requests there were.

    Attributes:
        requests: As "METHOD path".
        met: Whether the request came that something was to be done to.
    """

    def __init__(self, number: int, fault: Fault, react: Callable[[], object], lasting: Lasting) -> None:
        self.requests: list[str] = []
        self.met = False
        self._number, self._fault, self._react, self._lasting = number, fault, react, lasting

    def count(self, request: str) -> tuple[Fault, Callable[[], object]]:
        """The fault for the request whose turn it is."""
        number = len(self.requests)
        self.requests.append(request)
        if number == self._number or (0 <= self._number < number and self._is_of_the_same(request)):
            self.met = True
            return self._fault, self._react
        return NO_FAULT, lambda: None

    def _is_of_the_same(self, request: str) -> bool:
        first = self.requests[self._number]
        return self._lasting == "all" or (self._lasting == "same" and _without_query(first) == _without_query(request))


_ABOUT_A_BUCKET = re.compile(r"GET /storage/v1/b/[^/?]+(\?|$)")
"""Asked by a thread of Google's client, at any time or never, for what it would add to a trace."""


def changes_nothing(request: str) -> bool:
    """Whether a request only reads: then it is all the same to the store whether it fails before or after."""
    return request.startswith(("GET ", "HEAD "))


def _without_query(request: str) -> str:
    return request.partition("?")[0]


class StepProxy(Proxy):
    """Does one thing to one of the requests for a store, or to all from that one on; for several stores at once."""

    def __init__(self, upstream_port: int) -> None:
        super().__init__(upstream_port)
        self._lock = threading.Lock()
        self._watches: dict[str, Watch] = {}

    def __enter__(self) -> StepProxy:
        super().__enter__()
        return self

    def arm(
        self,
        bucket: str,
        number: int = -1,
        fault: Fault = NO_FAULT,
        react: Callable[[], object] = lambda: None,
        lasting: Lasting = "once",
    ) -> Watch:
        """Watches the requests for a bucket from now on.

        Args:
            bucket: Its name, which is in the path of each of its requests and of no other.
            number: Of the request that something happens to, from 0; a negative one only counts.
            fault: What happens to it.
            react: Called at the moment that the fault tells, on the request's own thread: the request waits for it.
            lasting: What else it happens to.
        """
        with self._lock:
            self._watches[bucket] = Watch(number, fault, react, lasting)
            return self._watches[bucket]

    def disarm(self, bucket: str) -> None:
        """Passes everything on from now on."""
        with self._lock:
            del self._watches[bucket]

    def next_fault(self, request: str) -> tuple[Fault, Callable[[], object]]:
        """The fault for the request whose turn it is."""
        if _ABOUT_A_BUCKET.match(request):
            return NO_FAULT, lambda: None
        with self._lock:
            for bucket, watch in self._watches.items():
                if bucket in request:
                    return watch.count(request)
        return NO_FAULT, lambda: None


class _Handler(BaseHTTPRequestHandler):
    proxy: Proxy
    upstream_port: int
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _pass_on(self) -> None:
        body = self._body()
        (kind, when), react = self.proxy.next_fault(f"{self.command} {self.path}")
        if when == "before":
            react()
        if kind in ("", "truncated") or when == "after":
            status, headers, answer = self._ask(body)
        if when == "after":
            react()
        if not kind:
            self._answer(status, headers, answer)
        elif kind == "truncated":
            self._answer(status, headers, answer[: len(answer) // 2], announced=len(answer))
            self._drop()
        elif kind == "dropped":
            self._drop()
        else:
            self._answer(int(kind), [("Content-Type", "text/plain")], b"")

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = _pass_on  # noqa: N815

    def _drop(self) -> None:
        self.close_connection = True
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:  # the client is dead already
            return

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

    def _ask(self, body: bytes) -> Answer:
        """The server's answer, or Google's where fake-gcs-server has another.

        Asked how far a resumable upload is, Google says what became of it; fake-gcs-server ends it, with nothing in it.
        """
        if "upload_id=" not in self.path or self.command != "PUT":
            return self._ask_server(body)
        if self.headers.get("Content-Range") == "bytes */*":
            return self.proxy.finished_uploads.get(self.path, (308, [], b""))
        answer = self._ask_server(body)
        if answer[0] < 300:
            self.proxy.finished_uploads[self.path] = answer
        return answer

    def _ask_server(self, body: bytes) -> Answer:
        """Host stays as the client wrote it, as S3's signatures cover it; links to the server become links to here."""
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
        there, here = f"127.0.0.1:{self.upstream_port}", f"127.0.0.1:{self.proxy.port}"
        if (response.getheader("Content-Type") or "").startswith("application/json"):
            answer = answer.replace(there.encode(), here.encode())
        headers = [(name, value.replace(there, here)) for name, value in response.getheaders()]
        return response.status, headers, answer

    def _answer(
        self, status: int, headers: list[tuple[str, str]], body: bytes, *, announced: int | None = None
    ) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in _HOP_BY_HOP and (name.lower() != "content-length" or self.command == "HEAD"):
                self.send_header(name, value)
        if status not in (204, 304) and self.command != "HEAD":
            self.send_header("Content-Length", str(len(body) if announced is None else announced))
        if announced == 0 or (announced is not None and self.command == "HEAD"):
            self.flush_headers()  # there is no body to cut: the head is, and never ends
            return
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Says nothing."""

    def handle(self) -> None:
        """Serves a connection; a client that is killed breaks it off."""
        try:
            super().handle()
        except (ConnectionError, ValueError):  # ValueError: a body that broke off where a length was expected
            return
