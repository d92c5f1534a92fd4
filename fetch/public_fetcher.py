"""Pictures by a URL that a stranger sent: from allowed hosts at public addresses, and from nowhere else."""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable, Sequence

import urllib3

from fetch.addresses import Address, is_public
from fetch.allowed_hosts import AllowedHost, parse_allowed_host
from fetch.byte_budget import ByteBudget
from fetch.guarded import Hop
from fetch.http import HttpDownloader, parse_url, shown_uri
from fetch.options import FetchOptions
from store.rejects import Reason, Rejected

_MOST_ATTEMPTS = 2  # a person waits for the answer


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
        options = dataclasses.replace(options, attempts=min(options.attempts, _MOST_ATTEMPTS))
        guard = _AllowedPublicHosts(tuple(parse_allowed_host(entry) for entry in allowed_hosts), is_public)
        self._http = HttpDownloader(
            options,
            ByteBudget(options.max_in_flight_bytes),
            time.monotonic,
            time.sleep,
            random.Random(),  # noqa: S311 (spreads retries, guards nothing)
            guard,
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


class _AllowedPublicHosts:
    """Allowed hosts, at public addresses alone; see fetch.guarded.HopGuard."""

    def __init__(self, allowed: tuple[AllowedHost, ...], is_public: Callable[[Address], bool]) -> None:
        self._allowed = allowed
        self._is_public = is_public

    def target_of(self, url: str) -> urllib3.util.Url:
        try:
            target = parse_url(url)
        except Rejected as malformed:
            raise Rejected(Reason.FORBIDDEN, malformed.detail) from malformed
        if target.auth is not None:
            raise Rejected(Reason.FORBIDDEN, f"expected a URL without user and password, found {shown_uri(url)}")
        hop = Hop(self, target)
        if not any(allowed.admits(hop.host, hop.port) for allowed in self._allowed):
            raise self.refusal(hop)
        return target

    def admits(self, hop: Hop, address: Address) -> bool:
        return self._is_public(address)

    def refusal(self, hop: Hop) -> Rejected:
        detail = (
            "expected the URL of a host and port that pictures may be fetched from, with public addresses only, "
            f"found {hop.host.strip('[].')[:200]} and port {hop.port}"
        )
        return Rejected(Reason.FORBIDDEN, detail)
