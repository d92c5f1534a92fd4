"""A feed that names what it must not: files of this machine, its loopback, its network, its cloud's metadata."""

from __future__ import annotations

import dataclasses
import os
import socket
import sys
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fetch import addresses
from tests.support.fake_dns import Resolver
from tests.support.http_server import PictureServer, jpeg

PUBLIC = "127.0.0.9"
"""Passes for an address of the public internet."""

_OPENED: list[str] = []
_FORBIDDEN_NAMES = ("secret.jpg", "link.jpg", "chain.jpg", "environ", "passwd", "zero")


def _note_open(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        path = os.fsdecode(arguments[0])
        if os.path.basename(path) in _FORBIDDEN_NAMES:
            _OPENED.append(path)


sys.addaudithook(_note_open)  # one can never be taken away again


@dataclasses.dataclass(frozen=True)
class HostileFeed:
    """A folder with a catalog's pictures, what lies around it, and two servers.

    Attributes:
        folder: Of the catalog; `fine.jpg` in it may be read.
        canary: On loopback: must never be asked.
        public: Passes for a public server.
        resolver: What names mean.
    """

    folder: Path
    canary: PictureServer
    public: PictureServer
    resolver: Resolver

    @property
    def secret(self) -> Path:
        return self.folder.parent / "outside" / "secret.jpg"

    @property
    def good(self) -> dict[str, str]:
        return {"fine-web": f"http://public.test:{self.public.port}/ok/7.jpg"}

    def paths(self) -> list[str]:
        """Local files, absolute."""
        secret, folder = self.secret, self.folder
        escaped = urllib.parse.quote(str(secret)).replace("secret", "%73ecret")
        return [
            *(str(secret), f"file://{secret}", f"file://localhost{secret}", f"FILE://{secret}", f"file://{escaped}"),
            *(f"/.{secret}", f"{secret.parent}/./secret.jpg", f"{folder}/../outside/secret.jpg", f"//{secret}"),
            *(f"file://{folder}/../outside/secret.jpg", f"file://{folder}/%2e%2e/outside/secret.jpg"),
            *(f"{folder}-of-others/secret.jpg", f"/proc/self/root{secret}", f"file:///proc/self/root{secret}"),
            *("/proc/self/environ", "file:///proc/self/environ", "/proc/thread-self/environ", "/proc/self/fd/0"),
            *("/etc/passwd", "file:///etc/passwd", "file:///%65tc/passwd", "/etc/../etc/passwd", "/dev/zero"),
            *("/dev/stdin", "/", "/nothing/is/here.jpg"),
        ]

    def relative_paths(self) -> list[str]:
        """Local files by names that start at the catalog's folder."""
        return [
            *("../outside/secret.jpg", "sub/../../outside/secret.jpg", "link.jpg", "chain.jpg", "sub/link.jpg"),
            *("elsewhere/secret.jpg", "elsewhere/../outside/secret.jpg", ".", "..", "root/etc/passwd", "proc/environ"),
        ]

    def buckets(self) -> list[str]:
        """Object stores of others."""
        return ["gs://other/secret.jpg", "S3://other/secret.jpg", "hdfs://namenode/secret.jpg"]

    def loopback_urls(self) -> list[str]:
        """All that reaches the canary where nobody minds."""
        port = self.canary.port
        hosts = ["127.0.0.1", "localhost", "127.1", "127.0.1", "0x7f.0.0.1", "0x7f000001", "2130706433", "017700000001"]
        hosts += ["0177.0.0.1", "0.0.0.0", "0", "loopback.test", "LOOPBACK.test", "%6coopback.test", "loopback.test."]
        hosts += ["xn--bcher-kva.test", "b\u00fccher.test", "public.test@127.0.0.1", "public.test:80@localhost"]
        return [f"http://{host}:{port}/ok/1.jpg" for host in hosts]

    def other_urls(self) -> list[str]:
        """Addresses that are private, local or a cloud's own, and loopback in its other forms."""
        port = self.canary.port
        hosts = ["[::1]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "127.0.0.1."]
        hosts += ["[64:ff9b::7f00:1]", "[64:ff9b::127.0.0.1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[fc00::1]"]
        hosts += ["[fe80::1%25lo]", "[fe80::1]", "[fec0::1]", "[fd00:ec2::254]", "[fd20:ce::254]", "[::]"]
        hosts += ["169.254.169.254", "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]", "0xa9fea9fe", "2852039166"]
        hosts += ["[2002:a9fe:a9fe::]", "[2600:1::a9fe:a9fe]", "100.100.100.200", "168.63.129.16", "192.0.0.192"]
        hosts += ["10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "198.18.0.1", "224.0.0.1", "255.255.255.255"]
        hosts += ["metadata.google.internal", "metadata.google.internal.", "intranet.test", "mixed.test", "ipv6.test"]
        hosts += ["mapped.test", "link-local.test", "rebind.test"]
        urls = [f"http://{host}:{port}/ok/1.jpg" for host in hosts]
        urls += [f"https://127.0.0.1:{port}/a.jpg", f"HTTP://127.0.0.1:{port}/a.jpg", "http://169.254.169.254/a.jpg"]
        return [*urls, f"http://127.0.0.1:{port}#@public.test/", f"http://127.0.0.1:{port}/?@public.test/a.jpg"]

    def redirects(self) -> list[str]:
        """From a public server to places that are not."""
        port = self.canary.port
        places = [f"http://127.0.0.1:{port}/ok/1.jpg", f"http://loopback.test:{port}/ok/1.jpg"]
        urls = [self.redirect(code, place) for code in (301, 302, 303, 307, 308) for place in places]
        more = [f"http://[::1]:{port}/", "http://169.254.169.254/latest/", f"http://mixed.test:{port}/ok/1.jpg"]
        more += [f"//127.0.0.1:{port}/ok/1.jpg", "http://metadata.google.internal/", self.redirect(302, places[0])]
        return urls + [self.redirect(302, place) for place in more]

    def redirect(self, code: int, place: str) -> str:
        """A URL of the public server that leads to a place."""
        to = urllib.parse.quote(place, safe="")
        return f"http://public.test:{self.public.port}/redirect?code={code}&to={to}"

    def forget(self) -> None:
        """Begins anew: nobody has asked, and names mean what they did at first."""
        self.opened()
        self.canary.requests.clear()
        self.resolver.answers["rebind.test"] = [[PUBLIC], ["127.0.0.1"]]  # nobody listens at the first

    def opened(self) -> list[str]:
        """What of the forbidden files has been opened since it was last asked."""
        found, _OPENED[:] = list(_OPENED), []
        return found


@contextmanager
def hostile_feed(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[HostileFeed]:
    """Lays the folder out, starts the servers and tells names apart."""
    catalog, outside, others = folder / "catalog", folder / "outside", folder / "catalog-of-others"
    for made in (catalog / "sub", outside, others):
        made.mkdir(parents=True)
    (catalog / "fine.jpg").write_bytes(jpeg(5))
    for secret in (outside / "secret.jpg", others / "secret.jpg"):
        secret.write_bytes(jpeg(6))
    links = {"link.jpg": f"{outside}/secret.jpg", "chain.jpg": f"{catalog}/link.jpg", "sub/link.jpg": "../link.jpg"}
    for name, target in {**links, "elsewhere": str(outside), "root": "/", "proc": "/proc/self"}.items():
        (catalog / name).symlink_to(target)
    resolver = Resolver()
    is_public = addresses.is_public
    patch.setattr(addresses, "is_public", lambda address: str(address) == PUBLIC or is_public(address))
    patch.setattr(socket, "getaddrinfo", resolver)
    with PictureServer() as canary, PictureServer(PUBLIC) as public:
        loopback, metadata = [["127.0.0.1"]], [["169.254.169.254"]]
        names = ("localhost", "loopback.test", "loopback.test.", "xn--bcher-kva.test")
        resolver.answers = {
            **dict.fromkeys(names, loopback),
            **dict.fromkeys(("metadata.google.internal", "metadata.google.internal."), metadata),
            "public.test": [[PUBLIC]],
            "intranet.test": [["10.0.0.1"]],
            "mixed.test": [[PUBLIC, "127.0.0.1"]],
            "ipv6.test": [["::1"]],
            "mapped.test": [["::ffff:127.0.0.1"]],
            "link-local.test": [["fe80::1"]],
        }
        feed = HostileFeed(catalog, canary, public, resolver)
        feed.forget()
        yield feed
