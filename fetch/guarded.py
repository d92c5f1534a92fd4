"""Connections whose addresses are looked at before every request, as what a name means may change at any time."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import ipaddress
import socket
from collections.abc import Sequence
from typing import Any, Protocol

import urllib3
from urllib3 import exceptions as http_errors
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from fetch.addresses import Address
from fetch.allowed_hosts import port_of
from fetch.deadline import DeadlineHttpConnection, DeadlineHttpsConnection, current_deadline
from store.rejects import Rejected


class HopGuard(Protocol):
    """Says where a download may go, redirects too."""

    def target_of(self, url: str) -> urllib3.util.Url:
        """Takes a hop's URL apart, before its host is looked up; raises Rejected where it may not be gone to."""

    def admits(self, hop: Hop, address: Address) -> bool:
        """Whether a hop may connect to an address that its host has."""

    def refusal(self, hop: Hop) -> Rejected:
        """The reject of a hop whose addresses are not admitted; it does not tell them."""


@dataclasses.dataclass(slots=True)
class Hop:
    """One request of a download. Belongs to one thread.

    Attributes:
        guard: Says where it may go.
        target: Its URL.
        earlier: The addresses that the hops before it went to.
        reached: The address that it went to.
    """

    guard: HopGuard
    target: urllib3.util.Url
    earlier: tuple[Address, ...] = ()
    reached: Address | None = None

    @property
    def host(self) -> str:
        """As urllib3 takes it out of the URL."""
        return self.target.host or ""

    @property
    def port(self) -> int:
        """Also where the URL has none."""
        return port_of(self.target)

    def check(self, addresses: Sequence[Address]) -> None:
        """Raises Rejected unless it may connect to every one of its host's addresses."""
        if not all(self.guard.admits(self, address) for address in addresses):
            raise self.guard.refusal(self)


# A hop cannot be handed through urllib3, which connects and sends in the caller's own thread.
current_hop: contextvars.ContextVar[Hop] = contextvars.ContextVar("current_hop")


class _GuardedConnection(HTTPConnection):
    """Resolves its host once, checks every address, and connects to one of those.

    The name stays the connection's host, which TLS checks the certificate against and the Host header carries. A
    connection that is used again is checked again: what one download may reach, another may not.
    """

    _peer: Address | None = None

    def request(self, *args: Any, **kwargs: Any) -> None:
        hop = current_hop.get()
        if self.sock is not None and self._peer is not None:
            hop.check([self._peer])
        super().request(*args, **kwargs)
        hop.reached = self._peer

    def _new_conn(self) -> socket.socket:
        try:
            found = socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)
            current_hop.get().check([_address_of(place) for *_, place in found])
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
                self._peer = _address_of(place)
                return sock
        raise failure


def _address_of(place: tuple[Any, ...]) -> Address:
    return ipaddress.ip_address(place[0])


class _GuardedHttpConnection(_GuardedConnection, DeadlineHttpConnection):
    pass


class _GuardedHttpsConnection(_GuardedConnection, DeadlineHttpsConnection):
    pass


class GuardedHttpPool(HTTPConnectionPool):
    """urllib3's pool, whose connections obey `current_hop` and `current_deadline`."""

    ConnectionCls = _GuardedHttpConnection


class GuardedHttpsPool(HTTPSConnectionPool):
    """urllib3's pool, whose connections obey `current_hop` and `current_deadline`."""

    ConnectionCls = _GuardedHttpsConnection
