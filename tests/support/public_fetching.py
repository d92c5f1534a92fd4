"""What a test needs to let its own server on loopback pass for a public one."""

from __future__ import annotations

import ipaddress

from fetch.addresses import Address, is_public
from fetch.options import FetchOptions
from tests.support.http_server import PictureServer

OPTIONS = FetchOptions(connect_timeout_s=2, read_timeout_s=5, deadline_s=10, backoff_s=0.01, max_backoff_s=0.02)
LOOPBACK = ipaddress.ip_address("127.0.0.1")


def public_or_loopback(address: Address) -> bool:
    """Lets the test's own server pass for a public one; 127.0.0.2 and ::1 stay private."""
    return address == LOOPBACK or is_public(address)


def url_of(server: PictureServer, path: str, host: str = "pictures.test") -> str:
    return f"http://{host}:{server.port}{path}"
