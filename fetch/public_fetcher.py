"""Pictures by a URL that a stranger sent: from allowed hosts at public addresses, and from nowhere else."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import ipaddress
import random
import re
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

import urllib3
from urllib3 import exceptions as http_errors
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from fetch.byte_budget import ByteBudget
from fetch.deadline import DeadlineHttpConnection, DeadlineHttpsConnection, current_deadline
from fetch.http import HttpDownloader, parse_url, shown_uri
from fetch.options import FetchOptions
from store.rejects import Reason, Rejected

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_MOST_ATTEMPTS = 2  # a person waits for the answer
_PORTS = {"http": 80, "https": 443}
_NAME = re.compile(r"[a-z0-9_][a-z0-9_-]{0,62}(\.[a-z0-9_][a-z0-9_-]{0,62})*")
# The resolver takes a name whose last label is a number, hex too, for an IPv4 address: 127.1, 0x7f000001, 2130706433.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")

# What the IANA registries of special-purpose addresses call not globally reachable or deprecated. Written out because
# Python's is_global differs between patch releases and calls multicast, fec0::/10 and newer entries global.
_CLOSED_IPV4 = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",  # in public space, yet inside Azure it is the host's own control service
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
_OPEN_IPV6 = ipaddress.IPv6Network("2000::/3")  # all that is given out as global unicast
_CLOSED_IPV6 = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # Teredo, benchmarking, ORCHID: protocols, no web servers
        "2001:db8::/32",
        "2002::/16",  # 6to4, deprecated; a way to any IPv4 address
        "3fff::/20",
    )
)
_MAPPED_IPV4 = ipaddress.IPv6Network("::ffff:0:0/96")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # where a cluster has IPv6 alone, every IPv4 server has such an address


def is_public(address: Address) -> bool:
    """Whether an address is one of the public internet, the same on every version of Python.

    Addresses that hold an IPv4 address and reach it (mapped, NAT64) are as public as that one; other forms that hold
    one (6to4, Teredo, local-use NAT64) are not public. A network's own NAT64 prefix cannot be told from other public
    addresses.
    """
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _CLOSED_IPV4)
    if address.scope_id is not None:
        return False
    if address in _MAPPED_IPV4 or address in _NAT64:
        return is_public(ipaddress.IPv4Address(address.packed[-4:]))
    return address in _OPEN_IPV6 and not any(address in network for network in _CLOSED_IPV6)


class PublicFetcher:
    """Fetches encoded pictures over http(s) by URLs that nobody vouches for. Thread-safe; creating one does no I/O.

    Every hop, redirects too, must name an allowed host and an allowed port, without user and password. Every address
    that the name resolves to must be public, and the connection goes to one of those very addresses, so that a name
    that resolves differently a moment later changes nothing. Proxies of the environment are not used.
    """

    def __init__(
        self, allowed_hosts: Sequence[str], options: FetchOptions, *, is_public: Callable[[Address], bool] = is_public
    ) -> None:
        """Takes the hosts, the limits, and what tests replace.

        Args:
            allowed_hosts: images.example.com, *.example.com (its sub-domains, at any depth, without itself) or
                93.184.216.34 or [2606:2800::1], each on ports 80 and 443; or with the one port that is meant, as in
                images.example.com:8443.
            options: The limits; more than two attempts are cut to two.
            is_public: Whether a connection may go to an address.

        Raises:
            ValueError: An allowed host is not written as above.
        """
        self._allowed = tuple(_parse_allowed(entry) for entry in allowed_hosts)
        options = dataclasses.replace(options, attempts=min(options.attempts, _MOST_ATTEMPTS))
        self._http = HttpDownloader(
            options,
            ByteBudget(options.max_in_flight_bytes),
            time.monotonic,
            time.sleep,
            random.Random(),  # noqa: S311 (spreads retries, guards nothing)
            target_of=self._target_of,
            pool_classes={
                "http": functools.partial(_PublicHttpPool, is_public=is_public),
                "https": functools.partial(_PublicHttpsPool, is_public=is_public),
            },
        )

    def fetch(self, url: str) -> bytes:
        """The picture's encoded bytes, content encoding undone.

        Raises:
            Rejected: forbidden for what is not allowed, with the same words whether the host or its address is to
                blame: a stranger does not learn what a name resolves to. Otherwise any of the fetch reasons but
                unsupported_scheme.
        """
        fetched = self._http.download(url)
        assert fetched is not None  # nothing was known
        return fetched.data

    def close(self) -> None:
        """Closes idle connections."""
        self._http.close()

    def _target_of(self, url: str) -> urllib3.util.Url:
        try:
            target = parse_url(url)
        except Rejected as malformed:
            raise Rejected(Reason.FORBIDDEN, malformed.detail) from malformed
        if target.auth is not None:
            raise Rejected(Reason.FORBIDDEN, f"expected a URL without user and password, found {shown_uri(url)}")
        scheme, host = target.scheme or "", target.host or ""
        port = _PORTS[scheme] if target.port is None else target.port
        if not any(allowed.admits(host, port) for allowed in self._allowed):
            raise _refusal(host, port)
        return target


@dataclasses.dataclass(frozen=True, slots=True)
class _Allowed:
    """One entry of the allowed hosts; `port` None stands for the usual ones."""

    host: str
    subdomains: bool
    port: int | None

    def admits(self, host: str, port: int) -> bool:
        if port not in (_PORTS.values() if self.port is None else (self.port,)):
            return False
        try:
            host = _comparable(host)
        except ValueError:
            return False
        return host.endswith("." + self.host) if self.subdomains else host == self.host


def _parse_allowed(entry: str) -> _Allowed:
    subdomains = entry.startswith("*.")
    written = entry[2:] if subdomains else entry
    try:
        if re.search(r"[\s/\\?#@%*]", written) or written.endswith(":"):
            raise ValueError("more or less than a host and a port")
        target = urllib3.util.parse_url("http://" + written)
        host = _comparable(target.host or "")
        if target.port == 0 or (subdomains and _is_address(host)):
            raise ValueError("a port or a sub-domain that cannot be")
    except ValueError as error:
        raise ValueError(
            "allowed host: expected a name such as images.example.com, *.example.com or images.example.com:8443 "
            f"(no scheme, no path; an IPv6 address in brackets), found {entry!r}"
        ) from error
    return _Allowed(host, subdomains, target.port)


def _comparable(host: str) -> str:
    """A host as urllib3 takes it out of a URL, a name without trailing dot, an IP address in its one canonical form.

    Raises:
        ValueError: It is neither: 127.1, octal or hex numbers, characters that no name has.
    """
    if host.startswith("["):
        return f"[{ipaddress.IPv6Address(host[1:-1])}]"
    name = host.removesuffix(".")
    if not _NAME.fullmatch(name):
        raise ValueError("expected a host name in letters, digits, hyphens and dots")
    return str(ipaddress.IPv4Address(host)) if _is_address(name) else name


def _is_address(host: str) -> bool:
    return host.startswith("[") or _NUMBER.fullmatch(host.rpartition(".")[2]) is not None


def _refusal(host: str, port: int) -> Rejected:
    detail = (
        "expected the URL of a host and port that pictures may be fetched from, with public addresses only, "
        f"found {host.strip('[].')[:200]} and port {port}"
    )
    return Rejected(Reason.FORBIDDEN, detail)


class _PublicConnection(HTTPConnection):
    """Resolves its host once, checks every address, and connects to one of those.

    The name stays the connection's host, which TLS checks the certificate against and the Host header carries.
    """

    def __init__(self, *args: Any, is_public: Callable[[Address], bool], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_public = is_public

    def _new_conn(self) -> socket.socket:
        try:
            found = socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)
            if not all(self._is_public(_address_of(place)) for *_, place in found):
                raise _refusal(self.host, self.port)
            return self._connect_to_one(found)
        except socket.gaierror as error:
            raise http_errors.NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise http_errors.ConnectTimeoutError(self, "no connection in time") from error
        except OSError as error:
            raise http_errors.NewConnectionError(self, "no connection") from error

    def _connect_to_one(self, found: list[tuple[Any, ...]]) -> socket.socket:
        failure = OSError("the name has no address")
        for family, kind, protocol, _, place in found:
            with contextlib.ExitStack() as opened:
                try:
                    sock = opened.enter_context(socket.socket(family, kind, protocol))
                    for option in self.socket_options or ():
                        sock.setsockopt(*option)
                    remaining_s = max(current_deadline.get().remaining_s(), 0.001)
                    sock.settimeout(min(self.timeout or remaining_s, remaining_s))
                    sock.connect(place)
                except OSError as error:
                    failure = error
                    continue
                opened.pop_all()
                return sock
        raise failure


def _address_of(place: tuple[Any, ...]) -> Address:
    return ipaddress.ip_address(place[0])


class _PublicHttpConnection(_PublicConnection, DeadlineHttpConnection):
    pass


class _PublicHttpsConnection(_PublicConnection, DeadlineHttpsConnection):
    pass


class _PublicHttpPool(HTTPConnectionPool):
    ConnectionCls = _PublicHttpConnection


class _PublicHttpsPool(HTTPSConnectionPool):
    ConnectionCls = _PublicHttpsConnection
