"""What a public fetcher refuses by the URL, by a redirect and by the address that a name leads to."""

from __future__ import annotations

import urllib.parse

import pytest

from fetch.public_fetcher import PublicFetcher
from store.rejects import Reason
from tests.support.fake_dns import Resolver
from tests.support.fetching import rejection
from tests.support.http_server import PictureServer, jpeg
from tests.support.public_fetching import OPTIONS, public_or_loopback, url_of

# --- what is refused by its URL


@pytest.mark.parametrize(
    "url",
    [
        "http://other.test:{port}/ok/1.jpg",
        "http://pictures.test.other.test:{port}/ok/1.jpg",
        "http://other.test:{port}\\@pictures.test:{port}/ok/1.jpg",
        "http://other.test:{port}#@pictures.test:{port}/ok/1.jpg",
        "http://other.test:{port}/?@pictures.test:{port}/ok/1.jpg",
        "http://user:s3cr3t@pictures.test:{port}/ok/1.jpg",
        "http://pictures.test:{port}@other.test:{port}/ok/1.jpg",
        "http://pictures.test/ok/1.jpg",
        "http://pictures.test:0/ok/1.jpg",
        "https://pictures.test/ok/1.jpg",
        "http://pictures.test..:{port}/ok/1.jpg",
        "http://pictures。test:{port}/ok/1.jpg",
        "http://pictures.test%00.other.test:{port}/ok/1.jpg",
        "http://pictures.test%2eother.test:{port}/ok/1.jpg",
        "ftp://pictures.test:{port}/ok/1.jpg",
        "file:///etc/passwd",
        "file://pictures.test/etc/passwd",
        "gopher://pictures.test:{port}/_GET",
        "data:image/gif;base64,R0lGOD",
        "//pictures.test:{port}/ok/1.jpg",
        "pictures.test:{port}/ok/1.jpg",
        "/etc/passwd",
        "",
        "http://",
        "http://[::1",
    ],
)
def test_a_url_that_is_not_allowed_is_refused_without_a_lookup(
    server: PictureServer, resolver: Resolver, fetcher: PublicFetcher, url: str
) -> None:
    rejected = rejection(fetcher, url.format(port=server.port))
    assert rejected.reason is Reason.FORBIDDEN
    assert not rejected.passing
    assert "s3cr3t" not in rejected.detail
    assert resolver.lookups == []
    assert server.connections == 0


@pytest.mark.parametrize("entry", ["pictures.test", "*.test"])
def test_an_entry_without_a_port_means_the_usual_two(server: PictureServer, resolver: Resolver, entry: str) -> None:
    fetcher = PublicFetcher([entry], OPTIONS)
    assert rejection(fetcher, url_of(server, "/ok/1.jpg")).reason is Reason.FORBIDDEN
    assert resolver.lookups == []
    for url in ("http://pictures.test/", "https://pictures.test/", "http://pictures.test:443/"):
        assert rejection(fetcher, url).reason is Reason.FORBIDDEN  # looked up, and found to be loopback
    assert resolver.lookups == ["pictures.test"] * 3


HOSTS_OF_LOOPBACK = [
    "127.0.0.1",
    "127.0.0.1.",
    "127.1",
    "127.0.1",
    "2130706433",
    "017700000001",
    "0177.0.0.1",
    "0x7f.1",
    "0x7F000001",
    "0x7f.0x0.0x0.0x1",
    "127.0.0.01",
    "%31%32%37.0.0.1",
    "%31%32%37%2e%30%2e%30%2e%31",
    "\uff11\uff12\uff17.0.0.1",
    "①②⑦.0.0.1",
    "127。0。0。1",
    "0",
    "0.0.0.0",
    "[::]",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::1%25lo]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
]


@pytest.mark.parametrize("host", HOSTS_OF_LOOPBACK)
def test_loopback_is_refused_in_every_form_even_where_it_is_allowed(
    server: PictureServer, resolver: Resolver, host: str
) -> None:
    url = url_of(server, "/ok/1.jpg", host)
    any_address = PublicFetcher([f"pictures.test:{server.port}"], OPTIONS, is_public=lambda address: True)
    assert rejection(any_address, url).reason is Reason.FORBIDDEN
    assert resolver.lookups == []
    listed = ["127.0.0.1", "0.0.0.0", "[::]", "[::1]", "[::ffff:127.0.0.1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]"]
    any_host = PublicFetcher([f"{entry}:{server.port}" for entry in listed], OPTIONS)
    assert rejection(any_host, url).reason is Reason.FORBIDDEN
    assert server.connections == 0


def test_localhost_is_refused_by_its_address_even_where_it_is_allowed(
    server: PictureServer, resolver: Resolver
) -> None:
    for host, address in (("localhost", "127.0.0.1"), ("LocalHost", "::1")):
        resolver.answers["localhost"] = [[address]]
        fetcher = PublicFetcher([f"localhost:{server.port}"], OPTIONS)
        assert rejection(fetcher, url_of(server, "/ok/1.jpg", host)).reason is Reason.FORBIDDEN
    assert resolver.lookups == ["localhost", "localhost"]
    assert server.connections == 0


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0177.0.0.1", "0x7f.1", "127.0.0.01"])
def test_a_short_form_is_not_the_address_that_was_allowed(server: PictureServer, resolver: Resolver, host: str) -> None:
    fetcher = PublicFetcher([f"127.0.0.1:{server.port}"], OPTIONS, is_public=public_or_loopback)
    assert rejection(fetcher, url_of(server, "/ok/1.jpg", host)).reason is Reason.FORBIDDEN
    assert server.connections == 0


# --- what is refused by its redirects


@pytest.mark.parametrize(
    "target",
    [
        "http://localhost:{port}/ok/1.jpg",
        "http://127.0.0.1:{port}/ok/1.jpg",
        "http://[::1]:{port}/ok/1.jpg",
        "http://2130706433:{port}/ok/1.jpg",
        "http://169.254.169.254/latest/meta-data/",
        "http://other.test:{port}/ok/1.jpg",
        "//other.test:{port}/ok/1.jpg",
        "http://user:pass@pictures.test:{port}/ok/1.jpg",
        "http://pictures.test:1/ok/1.jpg",
        "file:///etc/passwd",
        "ftp://pictures.test/ok/1.jpg",
    ],
)
def test_a_redirect_is_judged_like_the_first_url(
    server: PictureServer, resolver: Resolver, fetcher: PublicFetcher, target: str
) -> None:
    to = urllib.parse.quote(target.format(port=server.port), safe="")
    assert rejection(fetcher, url_of(server, f"/redirect/away?to={to}")).reason is Reason.FORBIDDEN
    assert server.requests == {"/redirect/away": 1}
    assert resolver.lookups == ["pictures.test"]


def test_a_redirect_to_an_allowed_name_at_a_private_address_is_refused(
    server: PictureServer, resolver: Resolver
) -> None:
    entries = [f"pictures.test:{server.port}", f"inside.test:{server.port}"]
    fetcher = PublicFetcher(entries, OPTIONS, is_public=public_or_loopback)
    resolver.answers["inside.test"] = [["127.0.0.2"]]
    to = urllib.parse.quote(url_of(server, "/ok/1.jpg", "inside.test"), safe="")
    assert rejection(fetcher, url_of(server, f"/redirect/in?to={to}")).reason is Reason.FORBIDDEN
    assert server.requests == {"/redirect/in": 1}


# --- what is refused by its address


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.2"],
        ["10.1.2.3"],
        ["169.254.169.254"],
        ["::1"],
        ["fe80::1"],
        ["::ffff:10.1.2.3"],
        ["127.0.0.1", "10.1.2.3"],
        ["10.1.2.3", "127.0.0.1"],
        ["127.0.0.1", "fd00:ec2::254"],
    ],
)
def test_a_name_with_any_private_address_is_refused_once_and_without_saying_which(
    server: PictureServer, resolver: Resolver, fetcher: PublicFetcher, addresses: list[str]
) -> None:
    resolver.answers["pictures.test"] = [addresses]
    rejected = rejection(fetcher, url_of(server, "/ok/1.jpg"))
    assert rejected.reason is Reason.FORBIDDEN
    assert not rejected.passing
    assert resolver.lookups == ["pictures.test"]
    assert server.connections == 0
    not_allowed = rejection(fetcher, url_of(server, "/ok/1.jpg", "pictures.tesT.other"))
    assert rejected.detail == not_allowed.detail.replace("pictures.test.other", "pictures.test")


def test_the_connection_goes_to_the_address_that_was_checked(
    server: PictureServer, resolver: Resolver, fetcher: PublicFetcher
) -> None:
    resolver.answers["pictures.test"] = [["127.0.0.1"], ["127.0.0.2"]]  # as a rebinding name server answers
    assert fetcher.fetch(url_of(server, "/ok/1.jpg")) == jpeg(1)
    assert resolver.lookups == ["pictures.test"]
    fetcher.close()
    assert rejection(fetcher, url_of(server, "/ok/1.jpg")).reason is Reason.FORBIDDEN
    assert resolver.lookups == ["pictures.test"] * 2
    assert server.connections == 1


def test_a_name_that_turns_private_between_attempts_is_refused(
    server: PictureServer, resolver: Resolver, fetcher: PublicFetcher
) -> None:
    resolver.answers["pictures.test"] = [["127.0.0.1"], ["127.0.0.2"]]
    assert rejection(fetcher, url_of(server, "/reset-then-200")).reason is Reason.FORBIDDEN
    assert server.requests["/reset-then-200"] == 1
