from __future__ import annotations

import contextlib
import dataclasses
import datetime
import http.server
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

from fetch.addresses import Address
from fetch.public_fetcher import PublicFetcher
from store.rejects import Reason
from tests.support.fake_dns import Resolver
from tests.support.fetching import rejection
from tests.support.http_server import PictureServer, jpeg
from tests.support.public_fetching import OPTIONS, public_or_loopback, url_of

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
