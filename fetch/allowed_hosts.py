"""Hosts that a user allows by name: how they are written, and which of a URL's hosts they mean."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import socket

import urllib3

PORTS = {"http": 80, "https": 443}
_NAME = re.compile(r"[a-z0-9_][a-z0-9_-]{0,62}(\.[a-z0-9_][a-z0-9_-]{0,62})*")
# The resolver takes a name whose last label is a number, hex too, for an IPv4 address: 127.1, 0x7f000001, 2130706433.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


@dataclasses.dataclass(frozen=True, slots=True)
class AllowedHost:
    """One host, or all below a domain, as a user allows them.

    Attributes:
        host: In the form that `comparable_host` gives.
        subdomains: Whether its sub-domains are meant, at any depth, and not itself.
        port: The one that is meant; None for 80 and 443.
    """

    host: str
    subdomains: bool
    port: int | None

    def admits(self, host: str, port: int) -> bool:
        """Whether a URL's host and port are meant."""
        if port not in (PORTS.values() if self.port is None else (self.port,)):
            return False
        try:
            host = comparable_host(host)
        except ValueError:
            return False
        return host.endswith("." + self.host) if self.subdomains else host == self.host


def parse_allowed_host(entry: str) -> AllowedHost:
    """Reads images.example.com, *.example.com, 93.184.216.34 or [2606:2800::1], with or without a port.

    Raises:
        ValueError: It is not written so.
    """
    subdomains = entry.startswith("*.")
    written = entry[2:] if subdomains else entry
    try:
        if re.search(r"[\s/\\?#@%*]", written) or written.endswith(":"):
            raise ValueError("more or less than a host and a port")
        target = urllib3.util.parse_url("http://" + written)
        host = comparable_host(target.host or "")
        if target.port == 0 or (subdomains and _is_address(host)):
            raise ValueError("a port or a sub-domain that cannot be")
    except ValueError as error:
        raise ValueError(
            "allowed host: expected a name such as images.example.com, *.example.com or images.example.com:8443 "
            f"(no scheme, no path; an IPv6 address in brackets), found {entry!r}"
        ) from error
    return AllowedHost(host, subdomains, target.port)


def comparable_host(host: str) -> str:
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


def port_of(target: urllib3.util.Url) -> int:
    """The port that an http(s) URL means."""
    return PORTS[target.scheme or ""] if target.port is None else target.port


def literal_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a URL's host is written as, in whichever form a resolver takes; None for a name."""
    if host.startswith("["):
        return ipaddress.IPv6Address(host[1:-1])
    name = host.removesuffix(".")
    if not _is_address(name):
        return None
    try:
        return ipaddress.IPv4Address(socket.inet_aton(name))
    except OSError:
        return None
