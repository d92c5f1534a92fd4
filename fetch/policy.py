"""What a catalog may make this machine fetch: one policy, by where the catalog came from and what its owner allows."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence

import urllib3

from fetch import addresses
from fetch.addresses import Address
from fetch.allowed_hosts import AllowedHost, comparable_host, literal_address, parse_allowed_host
from fetch.guarded import Hop
from fetch.http import parse_url, shown_uri
from fetch.uris import bucket_of, path_of, scheme_of
from store.rejects import Reason, Rejected

TRUST = ("auto", "none")

_WEB = ("http", "https")
# No address in any form: the last of its labels has letters alone. A catalog of millions is checked in passing.
_PLAIN_NAME = re.compile(r"https?://[A-Za-z0-9.-]*\.[A-Za-z]{2,}(?::[0-9]{1,5})?(?:[/?#]|$)")
_BUCKET = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@\s]+")
# Files that are none: what they say is the state of this process and this machine.
_UNREAL = ("/proc", "/sys", "/dev")


@dataclasses.dataclass(frozen=True, slots=True)
class FetchPolicy:
    """What may be fetched for a catalog. Travels to workers; see `policy_for`, which makes it.

    Link-local addresses and clouds' metadata services are refused under every policy, and so is a redirect from a
    public address to one that is not, unless its host is in `hosts`.

    Attributes:
        any_path: Whether every local path may be read; otherwise what lies below `folders`, by real paths.
        folders: Absolute local folders.
        any_bucket: Whether every object store may be read; otherwise `buckets`.
        buckets: As in gs://bucket.
        private: Whether addresses that are not public may be connected to; otherwise those of `hosts` alone.
        any_host: Whether hosts need not be named; otherwise `hosts` and `public_hosts`.
        hosts: May have any address but the ones above.
        public_hosts: May have public addresses.
    """

    any_path: bool = False
    folders: tuple[str, ...] = ()
    any_bucket: bool = False
    buckets: tuple[str, ...] = ()
    private: bool = False
    any_host: bool = True
    hosts: tuple[AllowedHost, ...] = ()
    public_hosts: tuple[AllowedHost, ...] = ()

    def only_hosts(self, public_hosts: Sequence[str]) -> FetchPolicy:
        """The same, but http(s) only to hosts that are named: `hosts`, and these at public addresses.

        Raises:
            ValueError: A host is not written as `parse_allowed_host` reads it.
        """
        named = tuple(parse_allowed_host(entry) for entry in public_hosts)
        return dataclasses.replace(self, private=False, any_host=False, public_hosts=named)

    def also_below(self, base: str) -> FetchPolicy:
        """The same, and what lies below another folder, in another bucket, or on another public host.

        Raises:
            ValueError: It is a URL whose host cannot be told.
        """
        scheme = scheme_of(base)
        if scheme in _WEB:
            target = parse_url(base)
            host = AllowedHost(comparable_host(target.host or ""), False, target.port)
            return dataclasses.replace(self, public_hosts=(*self.public_hosts, host))
        if scheme in ("", "file"):
            folder = os.path.abspath(path_of(base) if scheme else base)
            return dataclasses.replace(self, folders=(*self.folders, folder))
        return dataclasses.replace(self, buckets=(*self.buckets, bucket_of(base)))

    def check(self, uri: str) -> None:
        """Refuses a picture where its URI alone tells that it may not be fetched; asks no network.

        Args:
            uri: Absolute, or a local path.

        Raises:
            Rejected: not_allowed; or fetch_error, for what is no URI.
        """
        scheme = scheme_of(uri)
        if scheme in _WEB:
            if not (self.any_host and _PLAIN_NAME.match(uri)):  # a name tells nothing before it is looked up
                self.target_of(uri)
        elif scheme in ("", "file"):
            self.real_path(path_of(uri) if scheme else uri)
        elif not self.any_bucket and bucket_of(uri) not in self.buckets:
            bucket = shown_uri(bucket_of(uri))
            raise _refused(f"expected a picture in the catalog's own bucket, found {bucket}", f"--allow_hosts {bucket}")

    def real_path(self, path: str) -> tuple[str, str]:
        """Where a local file may be opened: the allowed folder, both without links, and its path below that.

        Returns:
            "" and the path as it is, where any may be read.

        Raises:
            Rejected: not_allowed. Whether there is such a file is not told.
        """
        if self.any_path:
            return "", path
        try:
            real = os.path.realpath(path)
            for folder in self.folders:
                root = os.path.realpath(folder)
                below = os.path.relpath(real, root)
                if below not in (".", "..") and not below.startswith("../") and not _is_unreal(real):
                    return root, below
        except (OSError, ValueError):  # a NUL, or characters no file name can have
            pass
        found = shown_uri(repr(path))
        raise _refused(f"expected a picture below the catalog's own folder, found {found}", "--allow_local DIR")

    def target_of(self, url: str) -> urllib3.util.Url:
        """See fetch.guarded.HopGuard."""
        hop = Hop(self, parse_url(url))
        if not (self.any_host or self._is_named(hop) or _is_in(self.public_hosts, hop)):
            raise self.refusal(hop)
        address = literal_address(hop.host)
        if address is not None and not self.admits(hop, address):
            raise self.refusal(hop)
        return hop.target

    def admits(self, hop: Hop, address: Address) -> bool:
        """See fetch.guarded.HopGuard."""
        if addresses.is_never_allowed(address):
            return False
        if addresses.is_public(address) or self._is_named(hop):
            return True
        return self.private and not any(map(addresses.is_public, hop.earlier))

    def refusal(self, hop: Hop) -> Rejected:
        """See fetch.guarded.HopGuard."""
        host = hop.host[:200] if hop.target.port is None else f"{hop.host[:200]}:{hop.target.port}"
        if self._is_named(hop) or (self.private and not hop.earlier):
            return Rejected(
                Reason.NOT_ALLOWED,
                f"link-local addresses and metadata services are never fetched from, found {host}",
            )
        if not self.any_host:
            flags = f"--allow_fetch {host}, or --allow_hosts {host} if its addresses are not public"
            return _refused(f"expected a host that may be fetched from, found {host}", flags)
        return _refused(f"expected a host with public addresses only, found {host}", f"--allow_hosts {host}")

    def _is_named(self, hop: Hop) -> bool:
        return _is_in(self.hosts, hop)


def policy_for(
    base: str,
    *,
    trust: str = "auto",
    allow_local: Sequence[str] = (),
    allow_hosts: Sequence[str] = (),
) -> FetchPolicy:
    """The policy of a catalog.

    A catalog on this machine is its owner's: it may name any path and any host. One from http(s) or an object store is
    somebody else's word: it may name neither local paths nor hosts at addresses that are not public, and of object
    stores its own bucket, one from an object store also others. With trust "none" a local catalog, too, may name only
    what lies in its own folder, public hosts, and no bucket.

    Args:
        base: Where the catalog's relative image URIs start from: its folder, or its URL or bucket up to the last "/".
        trust: auto or none.
        allow_local: Folders whose files it may name, whatever it is.
        allow_hosts: Hosts that may have private addresses, as `parse_allowed_host` reads them; and gs://bucket.

    Raises:
        ValueError: An entry is not written so.
    """
    if trust not in TRUST:
        raise ValueError(f"trust: expected one of {', '.join(TRUST)}, found {trust!r}")
    scheme = scheme_of(base)
    local = scheme in ("", "file")
    own_folder = [path_of(base) if scheme else base] if local else []
    own_bucket = [bucket_of(base)] if not local and scheme not in _WEB else []
    named_buckets = [entry for entry in allow_hosts if "://" in entry]
    return FetchPolicy(
        any_path=local and trust == "auto",
        folders=tuple(os.path.abspath(folder) for folder in (*own_folder, *allow_local)),
        any_bucket=scheme not in _WEB and trust == "auto",
        buckets=(*own_bucket, *map(_parse_bucket, named_buckets)),
        private=local and trust == "auto",
        hosts=tuple(parse_allowed_host(entry) for entry in allow_hosts if "://" not in entry),
    )


def _parse_bucket(entry: str) -> str:
    bucket = entry.rstrip("/")
    bucket = bucket.partition("://")[0].lower() + "://" + bucket.partition("://")[2]
    if not _BUCKET.fullmatch(bucket) or scheme_of(bucket) in (*_WEB, "file"):
        raise ValueError(f"expected a host without scheme, or a bucket such as gs://pictures, found {entry!r}")
    return bucket


def _is_in(hosts: Sequence[AllowedHost], hop: Hop) -> bool:
    return any(allowed.admits(hop.host, hop.port) for allowed in hosts)


def _is_unreal(path: str) -> bool:
    return any(path == folder or path.startswith(folder + "/") for folder in _UNREAL)


def _refused(found: str, flag: str) -> Rejected:
    return Rejected(Reason.NOT_ALLOWED, f"{found}; if the catalog may name it, pass {flag}")


ON_REQUEST = FetchPolicy(any_path=True, any_bucket=True, private=True)
"""For what a user names on the command line: any path and any host, as for a catalog of one's own."""
