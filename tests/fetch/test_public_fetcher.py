from __future__ import annotations

import contextlib
import dataclasses
import datetime
import http.server
import ipaddress
import socket
import ssl
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from fetch.addresses import Address, is_public
from fetch.options import FetchOptions
from fetch.public_fetcher import PublicFetcher
from store.rejects import Reason
from tests.support.fake_dns import Resolver
from tests.support.fetching import rejection
from tests.support.http_server import PictureServer, jpeg

OPTIONS = FetchOptions(connect_timeout_s=2, read_timeout_s=5, deadline_s=10, backoff_s=0.01, max_backoff_s=0.02)
LOOPBACK = ipaddress.ip_address("127.0.0.1")


def public_or_loopback(address: Address) -> bool:
    """Lets the test's own server pass for a public one; 127.0.0.2 and ::1 stay private."""
    return address == LOOPBACK or is_public(address)


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    made = Resolver()
    made.answers = {"pictures.test": [["127.0.0.1"]], "other.test": [["127.0.0.1"]]}
    monkeypatch.setattr(socket, "getaddrinfo", made)
    return made


@pytest.fixture
def server() -> Iterator[PictureServer]:
    with PictureServer() as running:
        yield running


@pytest.fixture
def fetcher(server: PictureServer, resolver: Resolver) -> Iterator[PublicFetcher]:
    made = PublicFetcher([f"pictures.test:{server.port}"], OPTIONS, is_public=public_or_loopback)
    yield made
    made.close()


def url_of(server: PictureServer, path: str, host: str = "pictures.test") -> str:
    return f"http://{host}:{server.port}{path}"


# --- what is fetched


def test_a_picture_of_an_allowed_host_arrives(server: PictureServer, fetcher: PublicFetcher) -> None:
    assert fetcher.fetch(url_of(server, "/ok/5.jpg")) == jpeg(5)
    assert fetcher.fetch(url_of(server, "/redirect")) == jpeg(1)
    absolute = urllib.parse.quote(url_of(server, "/ok/7.jpg"), safe="")
    assert fetcher.fetch(url_of(server, f"/redirect/absolute?to={absolute}")) == jpeg(7)


def test_a_host_is_the_same_in_any_case_and_with_a_trailing_dot(
    server: PictureServer, resolver: Resolver, fetcher: PublicFetcher
) -> None:
    resolver.answers["pictures.test."] = [["127.0.0.1"]]
    for host in ("PICTURES.Test", "pictures.test.", "%70ictures.test"):
        assert fetcher.fetch(url_of(server, "/ok/1.jpg", host)) == jpeg(1)
    assert resolver.lookups == ["pictures.test", "pictures.test."]  # the dot keeps a resolver from adding domains
    shouted = PublicFetcher([f"Pictures.TEST.:{server.port}"], OPTIONS, is_public=public_or_loopback)
    assert shouted.fetch(url_of(server, "/ok/2.jpg")) == jpeg(2)


def test_an_international_name_is_allowed_in_both_its_forms(server: PictureServer, resolver: Resolver) -> None:
    resolver.answers["xn--bcher-kva.test"] = [["127.0.0.1"]]
    for entry in ("Bücher.test", "xn--bcher-kva.test"):
        fetcher = PublicFetcher([f"{entry}:{server.port}"], OPTIONS, is_public=public_or_loopback)
        for host in ("bücher.test", "XN--BCHER-KVA.test"):
            assert fetcher.fetch(url_of(server, "/ok/1.jpg", host)) == jpeg(1)


def test_a_star_stands_for_sub_domains_only(server: PictureServer, resolver: Resolver) -> None:
    hosts = ("a.shop.test", "b.a.shop.test", "shop.test", "notshop.test", "a.shop.test.evil.test")
    resolver.answers = {host: [["127.0.0.1"]] for host in hosts}
    fetcher = PublicFetcher([f"*.shop.test:{server.port}"], OPTIONS, is_public=public_or_loopback)
    for host in hosts[:2]:
        assert fetcher.fetch(url_of(server, "/ok/1.jpg", host)) == jpeg(1)
    for host in hosts[2:]:
        assert rejection(fetcher, url_of(server, "/ok/1.jpg", host)).reason is Reason.FORBIDDEN
    assert resolver.lookups == list(hosts[:2])


def test_an_address_is_fetched_from_when_it_is_allowed_and_public(server: PictureServer, resolver: Resolver) -> None:
    fetcher = PublicFetcher([f"127.0.0.1:{server.port}"], OPTIONS, is_public=public_or_loopback)
    assert fetcher.fetch(server.url("/ok/1.jpg")) == jpeg(1)


def test_the_next_address_is_tried_where_one_does_not_answer(
    server: PictureServer, resolver: Resolver, fetcher: PublicFetcher
) -> None:
    resolver.answers["pictures.test"] = [["127.0.0.3", "127.0.0.1"]]  # the server listens on 127.0.0.1 alone
    fetcher = PublicFetcher([f"pictures.test:{server.port}"], OPTIONS, is_public=lambda address: True)
    assert fetcher.fetch(url_of(server, "/ok/1.jpg")) == jpeg(1)


def test_proxies_of_the_environment_are_not_used(
    server: PictureServer, fetcher: PublicFetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    with PictureServer() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url(""))
        assert fetcher.fetch(url_of(server, "/ok/1.jpg")) == jpeg(1)
        assert proxy.connections == 0


def test_a_failure_that_may_pass_is_tried_twice_and_no_more(server: PictureServer, fetcher: PublicFetcher) -> None:
    assert OPTIONS.attempts > 2
    assert fetcher.fetch(url_of(server, "/500-then-200")) == jpeg(1)
    assert rejection(fetcher, url_of(server, "/status/503")).reason is Reason.FETCH_ERROR
    assert server.requests["/status/503"] == 2


def test_a_name_without_an_address_and_a_dead_server_are_failures_of_their_own(
    server: PictureServer, resolver: Resolver
) -> None:
    fetcher = PublicFetcher(["nowhere.test", "127.0.0.3"], OPTIONS, is_public=lambda address: True)
    assert rejection(fetcher, "http://nowhere.test/a.jpg").reason is Reason.FETCH_ERROR
    dead = rejection(fetcher, "http://127.0.0.3/a.jpg")
    assert dead.reason is Reason.FETCH_ERROR
    assert "refused" in dead.detail
    assert dead.passing


def test_a_slow_lookup_counts_against_the_deadline(server: PictureServer, resolver: Resolver) -> None:
    def slowly(address: Address) -> bool:
        return not threading.Event().wait(0.3)

    hurried = dataclasses.replace(OPTIONS, deadline_s=0.2)
    fetcher = PublicFetcher([f"pictures.test:{server.port}"], hurried, is_public=slowly)
    assert rejection(fetcher, url_of(server, "/ok/1.jpg")).reason is Reason.TIMEOUT


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


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "100.127.255.255", "127.0.0.1"),
        *("127.255.255.255", "168.63.129.16", "169.254.0.1", "169.254.169.254", "172.16.0.1", "172.31.255.255"),
        *("192.0.0.1", "192.0.0.9", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1"),
        *("198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "::8.8.8.8", "::ffff:0.0.0.0", "::ffff:10.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254"),
        *("::ffff:0:8.8.8.8", "64:ff9b::10.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b::127.0.0.1"),
        *("64:ff9b:1::8.8.8.8", "64:ff9b:1::10.0.0.1", "64:ff9b:1:ffff::1", "100::1", "100:0:0:1::1"),
        *("2001::1", "2001:0:808:808::f7f7:f7f7", "2001:1::1", "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1"),
        *("2002:808:808::1", "2002:a00:1::1", "2002:7f00:1::1", "3fff::1", "3fff:fff::1", "4000::1", "5f00::1"),
        *("fc00::1", "fd00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "febf::1", "fec0::1", "feff::1", "ff02::1"),
        *("ff0e::1", "2606:4700:4700::1111%eth0"),
    ],
)
def test_an_address_of_no_public_server_is_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        *("1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255"),
        *("128.0.0.0", "168.63.129.15", "168.63.129.17", "169.253.255.255", "169.255.0.0", "172.15.255.255"),
        *("172.32.0.0", "192.0.1.0", "192.0.3.0", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0"),
        *("223.255.255.255", "2606:4700:4700::1111", "2a00:1450:4001::1", "2001:200::1", "2001:4860:4860::8888"),
        *("2003::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"),
    ],
)
def test_an_address_next_to_a_closed_network_is_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_whatever_this_python_calls_special_is_not_public(address: Address) -> None:
    if getattr(address, "ipv4_mapped", None) is not None or address in ipaddress.ip_network("64:ff9b::/96"):
        assert is_public(address) == is_public(ipaddress.IPv4Address(address.packed[-4:]))
    elif not address.is_global or address.is_multicast or address.is_reserved or address.is_link_local:
        assert not is_public(address)


# --- TLS


class _TlsHandler(http.server.BaseHTTPRequestHandler):
    server: _TlsServer

    def do_GET(self) -> None:
        self.server.hosts.append(self.headers["Host"])
        self.send_response(200)
        self.end_headers()
        self.wfile.write(jpeg(1))

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _TlsServer(http.server.ThreadingHTTPServer):
    def __init__(self, certificate: Path) -> None:
        super().__init__(("127.0.0.1", 0), _TlsHandler)
        self.hosts: list[str] = []
        self.names: list[str | None] = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        context.sni_callback = lambda _sock, name, _context: self.names.append(name)
        self.socket = context.wrap_socket(self.socket, server_side=True)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that distrusts the certificate hangs up."""


@contextlib.contextmanager
def tls_server(certificate: Path) -> Iterator[_TlsServer]:
    with _TlsServer(certificate) as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Key and certificate of pictures.test, which this process trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "pictures.test")])
    now = datetime.datetime.now(datetime.timezone.utc)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("pictures.test")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "certificate.pem"
    pem = serialization.Encoding.PEM
    pkcs8, open_ = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.write_bytes(key.private_bytes(pem, pkcs8, open_) + signed.public_bytes(pem))
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    return path


def test_tls_and_the_host_header_go_by_name_and_not_by_address(resolver: Resolver, certificate: Path) -> None:
    with tls_server(certificate) as server:
        port = server.server_address[1]
        entries = [f"{host}:{port}" for host in ("pictures.test", "other.test")]
        fetcher = PublicFetcher(entries, OPTIONS, is_public=public_or_loopback)
        assert fetcher.fetch(f"https://pictures.test:{port}/a.jpg") == jpeg(1)
        assert rejection(fetcher, f"https://other.test:{port}/a.jpg").reason is Reason.FETCH_ERROR
        assert server.names == ["pictures.test", "other.test"]
        assert server.hosts == [f"pictures.test:{port}"]


def test_a_private_address_is_not_even_greeted_over_tls(resolver: Resolver, certificate: Path) -> None:
    with tls_server(certificate) as server:
        port = server.server_address[1]
        fetcher = PublicFetcher([f"pictures.test:{port}"], OPTIONS)
        assert rejection(fetcher, f"https://pictures.test:{port}/a.jpg").reason is Reason.FORBIDDEN
        assert server.names == []


# --- allowed hosts


@pytest.mark.parametrize(
    "entry",
    [
        *("", " ", "*", "*.", ".", "..", ".example.com", "example..com", "https://images.example.com", "http:images"),
        *("images.example.com/", "images.example.com/a", "images.example.com?a", "user@images.example.com"),
        *("images.example.com:", "images.example.com:0", "images.example.com:65536", "images.example.com:http"),
        *("*images.example.com", "images.*.com", "*.*.example.com", "*.127.0.0.1", "*.[::1]", "images.example.com:*"),
        *("127.1", "2130706433", "0177.0.0.1", "0x7f.1", "10.0.0.0/8", "1.2.3.4.5", "::1", "[::1", "[fe80::1%eth0]"),
        *(
            "images example.com",
            "images.example.com ",
            "images.example.com\n",
            "-images.example.com",
            "a" * 64 + ".com",
        ),
        *("images.example.com,cdn.example.com", "\uff05.example.com", "images%2eexample.com", "\x00"),
    ],
)
def test_an_allowed_host_that_is_none_is_refused_at_once(entry: str) -> None:
    with pytest.raises(
        ValueError, match=r"allowed host: expected a name such as images\.example\.com.*found"
    ) as caught:
        PublicFetcher(["good.example.com", entry], OPTIONS)
    assert repr(entry) in str(caught.value)
