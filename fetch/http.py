"""Pictures over HTTP: polite, bounded, retried, and never held up by a server that does not end."""

from __future__ import annotations

import contextlib
import functools
import http
import http.client
import importlib.metadata
import random
import re
import socket
import ssl
import threading
import urllib.parse
import weakref
from collections.abc import Callable, Iterator

import urllib3
from urllib3 import exceptions as http_errors

from fetch.addresses import Address
from fetch.byte_budget import CHUNK_BYTES, ByteBudget, read_bounded
from fetch.deadline import Deadline, current_deadline
from fetch.guarded import GuardedHttpPool, GuardedHttpsPool, Hop, HopGuard, current_hop
from fetch.options import FetchOptions
from fetch.retries import PassingFailure, retry_after_s, with_retries
from fetch.source_version import Fetched, conditional_headers, of_response
from store.rejects import Reason, Rejected
from store.shortage import Lack, ShortageError, refuse_if_short, shortage_of

_OK_STATUSES = (200, 203)
_PASSING_STATUSES = (408, 425, 429)
_REASON_OF_STATUS = {
    401: Reason.FORBIDDEN,
    403: Reason.FORBIDDEN,
    404: Reason.NOT_FOUND,
    410: Reason.NOT_FOUND,
    451: Reason.FORBIDDEN,
}
_KEPT_HOSTS = 32  # hosts whose idle connections are kept: a catalog names few, and each may keep connections_per_host


def shown_uri(uri: str) -> str:
    """The URI as a detail may quote it: without user and password, and not endless."""
    public = re.sub(r"://[^/?#]*@", "://", uri)
    return public if len(public) <= 200 else public[:197] + "..."


def parse_url(url: str) -> urllib3.util.Url:
    """Takes an http(s) URL apart: scheme and host in lower case, the host's percent and IDNA forms resolved.

    Raises:
        Rejected: fetch_error, if it is not one or has no host.
    """
    try:
        target = urllib3.util.parse_url(url)
    except (http_errors.LocationParseError, ValueError) as error:
        # The URL is not quoted: where its parts cannot be told apart, neither can its password.
        raise Rejected(Reason.FETCH_ERROR, "expected a well-formed http(s) URL") from error
    if target.scheme not in ("http", "https") or not target.host:
        raise Rejected(Reason.FETCH_ERROR, f"expected an http(s) URL with a host, found {shown_uri(url)}")
    return target


class HttpDownloader:
    """Downloads pictures over http and https. Thread-safe; opens nothing until the first download."""

    def __init__(
        self,
        options: FetchOptions,
        budget: ByteBudget,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        jitter: random.Random,
        guard: HopGuard,
    ) -> None:
        """Takes the limits, and what tests replace.

        Args:
            options: The limits.
            budget: Memory shared by all downloads.
            clock: Seconds, never going back.
            sleep: Waits that many seconds.
            jitter: Draws the pauses between attempts.
            guard: Says where every hop may go, redirects too.
        """
        self._options = options
        self._budget = budget
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._guard = guard
        self._lock = threading.Lock()
        self._pools: urllib3.PoolManager | None = None
        # Weak: a host's seats live as long as someone sits or queues there, however many hosts a catalog names.
        self._seats: weakref.WeakValueDictionary[tuple[str, str, int], threading.BoundedSemaphore]
        self._seats = weakref.WeakValueDictionary()

    def download(self, url: str, known: str = "") -> Fetched | None:
        """The picture's encoded bytes, content encoding undone; None where the server says that they are as known.

        Args:
            url: Of the picture.
            known: The `source_version` of an earlier download, or "".

        Raises:
            Rejected: Any of the fetch reasons but unsupported_scheme.
        """
        deadline = Deadline(self._clock, self._options.deadline_s)
        token = current_deadline.set(deadline)
        try:
            attempt = functools.partial(self._follow, url, conditional_headers(known), deadline)
            return with_retries(attempt, self._options, deadline, self._sleep, self._jitter)
        finally:
            current_deadline.reset(token)

    def close(self) -> None:
        """Closes idle connections. A later download opens new ones."""
        with self._lock:
            if self._pools is not None:
                self._pools.clear()
                self._pools = None

    def _follow(self, url: str, conditions: dict[str, str], deadline: Deadline) -> Fetched | None:
        """One attempt: the request and its redirects."""
        earlier: tuple[Address, ...] = ()
        for _ in range(self._options.max_redirects + 1):
            deadline.check()
            hop = Hop(self._guard, self._guard.target_of(url), earlier)
            try:
                with self._seat(hop.target, deadline), _current(hop):
                    found = self._get(hop.target, conditions, deadline)
            except (http_errors.HTTPError, http.client.HTTPException, OSError, ValueError) as error:
                raise _failure_of(error, url) from error
            if not isinstance(found, str):
                return found
            earlier += () if hop.reached is None else (hop.reached,)
            url = _redirected(url, found)
        limit = self._options.max_redirects
        raise Rejected(Reason.FETCH_ERROR, f"expected at most {limit} redirects, found another to {shown_uri(url)}")

    def _get(self, target: urllib3.util.Url, conditions: dict[str, str], deadline: Deadline) -> Fetched | str | None:
        """One response: its body, or where it redirects to, or None for what is as known."""
        timeout = urllib3.Timeout(
            connect=min(self._options.connect_timeout_s, max(deadline.remaining_s(), 0.001)),
            read=self._options.read_timeout_s,
        )
        # Sent per request, so that a redirect to another host does not carry the credentials along.
        auth = urllib3.make_headers(basic_auth=urllib.parse.unquote(target.auth)) if target.auth else {}
        response = self._opened().urlopen(
            "GET",
            target.url,
            headers={"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": _user_agent(), **conditions, **auth},
            timeout=timeout,
            retries=False,
            redirect=False,
            preload_content=False,
        )
        try:
            if response.status in _OK_STATUSES:
                return Fetched(self._body(response, deadline), of_response(response.headers))
            if response.status == http.HTTPStatus.NOT_MODIFIED and conditions:
                return None
            location = response.get_redirect_location()
            _finish_small_body(response)
            if location:
                return location
            raise _failure_of_status(response, target.url)
        finally:
            # A finished response has given its connection back by now. Any other must lose it: reading a body to its
            # end so that the connection can be used again is what an endless server waits for.
            response.close()

    def _body(self, response: urllib3.BaseHTTPResponse, deadline: Deadline) -> bytes:
        encoded = response.headers.get("Content-Encoding", "").lower() not in ("", "identity")
        length = response.headers.get("Content-Length", "")
        # The length of a compressed body is only a lower bound of the picture's.
        expected_bytes = int(length) if length.isdecimal() and len(length) < 20 and not encoded else None
        return read_bounded(
            lambda amount: response.read(amount, decode_content=True),
            expected_bytes,
            self._options.max_image_bytes,
            self._budget,
            deadline,
        )

    @contextlib.contextmanager
    def _seat(self, target: urllib3.util.Url, deadline: Deadline) -> Iterator[None]:
        """One of a host's connections_per_host seats.

        urllib3's own limit (`block=True`) is not used because the wait for it would count against the deadline, and
        pictures would time out for sharing a host with slow ones.
        """
        host = (target.scheme or "", target.host or "", target.port or 0)
        with self._lock:
            seats = self._seats.get(host)
            if seats is None:
                seats = self._seats[host] = threading.BoundedSemaphore(self._options.connections_per_host)
        with deadline.paused():
            seats.acquire()
        try:
            yield
        finally:
            seats.release()

    def _opened(self) -> urllib3.PoolManager:
        with self._lock:
            if self._pools is None:
                refuse_if_short(Lack.DESCRIPTORS)  # a context that could not open its certificates would trust nobody
                # One TLS context for all: building one reads the certificate store, some 10 ms each.
                self._pools = urllib3.PoolManager(
                    _KEPT_HOSTS, maxsize=self._options.connections_per_host, ssl_context=ssl.create_default_context()
                )
                self._pools.pool_classes_by_scheme = {"http": GuardedHttpPool, "https": GuardedHttpsPool}
            return self._pools


@contextlib.contextmanager
def _current(hop: Hop) -> Iterator[None]:
    token = current_hop.set(hop)
    try:
        yield
    finally:
        current_hop.reset(token)


def _redirected(url: str, location: str) -> str:
    try:
        return urllib.parse.urljoin(url, location)
    except ValueError as error:  # brackets that hold no address, characters that imitate others
        detail = f"expected a redirect to a well-formed URL from {shown_uri(url)}"
        raise Rejected(Reason.FETCH_ERROR, detail) from error


def _finish_small_body(response: urllib3.BaseHTTPResponse) -> None:
    """Reads the short body that comes with an error or a redirect, so that its connection can be used again."""
    length = response.headers.get("Content-Length", "")
    if length.isdecimal() and len(length) < 6 and int(length) <= CHUNK_BYTES:
        with contextlib.suppress(http_errors.HTTPError, OSError):
            response.read(decode_content=False)


def _failure_of_status(response: urllib3.BaseHTTPResponse, url: str) -> Rejected | PassingFailure:
    detail = f"HTTP {response.status} from {shown_uri(url)}"
    if response.status in _PASSING_STATUSES or response.status >= 500:
        return PassingFailure(Reason.FETCH_ERROR, detail, retry_after_s(response.headers.get("Retry-After")))
    return Rejected(_REASON_OF_STATUS.get(response.status, Reason.FETCH_ERROR), detail)


def _failure_of(error: Exception, url: str) -> Rejected | PassingFailure | ShortageError:
    """Sorts what urllib3 raises into failures that may pass, failures that will not, and those that are our own.

    Only the kind of error and the system's own words are quoted: urllib3's messages hold addresses and URLs.
    """
    shortage = shortage_of(error)
    if shortage is not None:
        return shortage
    cause = error.__cause__ or (error.args[-1] if error.args else None)
    because = f" ({cause.strerror})" if isinstance(cause, OSError) and cause.strerror else ""
    detail = f"{type(error).__name__}{because} from {shown_uri(url)}"
    match error:
        case http_errors.NameResolutionError():
            refuse_if_short(Lack.DESCRIPTORS)  # without one a resolver finds no server, or no name
            if isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_AGAIN:
                return PassingFailure(Reason.FETCH_ERROR, detail)
            return Rejected(Reason.FETCH_ERROR, detail)
        case http_errors.NewConnectionError() | http_errors.ProtocolError() | http_errors.ClosedPoolError():
            return PassingFailure(Reason.FETCH_ERROR, detail)
        case http_errors.TimeoutError():
            return PassingFailure(Reason.TIMEOUT, detail)
    refuse_if_short(Lack.DESCRIPTORS)  # without one TLS finds no certificates
    return Rejected(Reason.FETCH_ERROR, detail)


@functools.cache
def _user_agent() -> str:
    try:
        return f"shelfmark/{importlib.metadata.version('shelfmark')}"
    except importlib.metadata.PackageNotFoundError:
        return "shelfmark/unknown"
