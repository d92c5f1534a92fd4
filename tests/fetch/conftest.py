"""Names that lead where a test says, a server of pictures, and a fetcher of public pictures that may ask it."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from fetch.public_fetcher import PublicFetcher
from tests.support.fake_dns import Resolver
from tests.support.http_server import PictureServer
from tests.support.public_fetching import OPTIONS, public_or_loopback


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
