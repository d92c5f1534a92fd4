from __future__ import annotations

import base64
import dataclasses
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from pipelines.notify import LIMITS, check_notify_url, describe_run, notify
from store.errors import UserError
from tests.store.test_runs import PUBLISHED, of_day
from tests.support.versions import name_of

# Short limits: these tests wait for real sockets.
SHORT = dataclasses.replace(LIMITS, connect_timeout_s=1.0, read_timeout_s=0.2, deadline_s=30.0)


class Webhook(ThreadingHTTPServer):
    """Answers by the path.

    Routes: /ok; /<status>; /<status>-then-ok; /stall and /drip never end; /reset hangs up; /moved redirects to /ok.

    Attributes:
        requests: Path, headers (names in lower case) and body of each.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.closing = threading.Event()

    def url(self, path: str, user: str = "") -> str:
        return f"http://{user}127.0.0.1:{self.server_port}{path}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are the point of these tests, not news."""


class _Handler(BaseHTTPRequestHandler):
    server: Webhook

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.server.requests.append((f"GET {self.path}", self.lowercase_headers(), b""))
        self.answer(200)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, self.lowercase_headers(), body))
        first, _, then = self.path[1:].partition("?")[0].partition("-then-")
        if first == "stall":
            self.server.closing.wait()
        elif first == "drip":
            self.drip()
        elif first == "reset":
            self.close_connection = True
        elif first == "moved":
            self.answer(308, Location="/ok")
        elif first == "ok" or (then and len(self.server.requests) > 1):
            self.answer(204)
        else:
            self.answer(int(first), Retry_After="7")

    def lowercase_headers(self) -> dict[str, str]:
        return {name.lower(): text for name, text in self.headers.items()}

    def answer(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()

    def drip(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while not self.server.closing.wait(0.02):
            self.wfile.write(b"x")


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield server
        server.closing.set()
        server.shutdown()


@pytest.fixture
def slept() -> list[float]:
    return []


def test_the_record_arrives_with_a_line_for_people(webhook: Webhook, slept: list[float]) -> None:
    assert notify(webhook.url("/ok"), PUBLISHED, sleep=slept.append) == ""
    ((_, headers, body),) = webhook.requests
    assert headers["content-type"] == "application/json"
    assert "authorization" not in headers
    document = json.loads(body)
    text = document.pop("text")
    assert document == json.loads(PUBLISHED.to_json())
    assert text == (
        "shelfmark reindex of s3://shop/catalog.csv: published; 10,000 rows (100 embedded, 9,880 reused, 20 rejected); "
        f"recall 0.9712; version {name_of(5)}; 90 s"
    )
    assert slept == []


def test_a_run_that_ended_badly_says_why_in_one_line() -> None:
    refused = of_day(3, outcome="refused", message="overlap@10 0.31\nis under 0.5", counts={}, recall=None)
    assert describe_run(refused) == "shelfmark reindex of s3://shop/catalog.csv: refused; overlap@10 0.31 is under 0.5"


def test_passwords_stay_here(webhook: Webhook) -> None:
    record = dataclasses.replace(PUBLISHED, catalog="https://me:secret@shop.example/catalog.csv")
    assert notify(webhook.url("/ok", user="bot:p%40ss@"), record) == ""
    ((_, headers, body),) = webhook.requests
    assert b"secret" not in body
    assert json.loads(body)["catalog"] == "https://shop.example/catalog.csv"
    assert base64.b64decode(headers["authorization"].removeprefix("Basic ")) == b"bot:p@ss"


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_server_in_trouble_is_asked_again(webhook: Webhook, slept: list[float], status: int) -> None:
    assert notify(webhook.url(f"/{status}-then-ok"), PUBLISHED, sleep=slept.append) == ""
    assert len(webhook.requests) == 2
    assert webhook.requests[0][2] == webhook.requests[1][2]
    assert slept == [7.0]  # as its Retry-After asks


def test_a_server_that_stays_in_trouble_is_asked_three_times(webhook: Webhook, slept: list[float]) -> None:
    why = notify(webhook.url("/502", "bot:hidden@"), PUBLISHED, sleep=slept.append)
    host = f"http://127.0.0.1:{webhook.server_port}"
    assert why == f"the notification was not delivered: HTTP 502 from {host} (3 of 3 attempts made)"
    assert len(webhook.requests) == 3
    assert len(slept) == 2


@pytest.mark.parametrize("status", [400, 401, 404, 410])
def test_a_refusal_is_final_and_the_secret_path_is_not_told(webhook: Webhook, slept: list[float], status: int) -> None:
    why = notify(webhook.url(f"/{status}?token=hidden", "bot:hidden@"), PUBLISHED, sleep=slept.append)
    assert why == f"the notification was not delivered: HTTP {status} from http://127.0.0.1:{webhook.server_port}"
    assert (len(webhook.requests), slept) == (1, [])


def test_redirects_are_not_followed(webhook: Webhook) -> None:
    assert "HTTP 308" in (why := notify(webhook.url("/moved"), PUBLISHED))
    assert why.endswith("which redirects: give the final address")
    assert [path for path, _, _ in webhook.requests] == ["/moved"]


def test_a_server_that_never_answers_is_given_up(webhook: Webhook, slept: list[float]) -> None:
    why = notify(webhook.url("/stall"), PUBLISHED, limits=SHORT, sleep=slept.append)
    assert "no answer in time from http://127.0.0.1" in why
    assert "3 of 3" in why
    assert len(slept) == 2


def test_a_server_that_answers_a_byte_at_a_time_is_given_up(webhook: Webhook) -> None:
    """Each byte starts the read timeout anew; the deadline is what ends it."""
    limits = dataclasses.replace(SHORT, deadline_s=0.5)
    assert "the notification was not delivered" in notify(webhook.url("/drip"), PUBLISHED, limits=limits)


def test_a_server_that_hangs_up_is_asked_again(webhook: Webhook, slept: list[float]) -> None:
    why = notify(webhook.url("/reset"), PUBLISHED, sleep=slept.append)
    assert "ProtocolError from http://127.0.0.1" in why
    assert (len(webhook.requests), len(slept)) == (3, 2)


def test_nobody_listens(slept: list[float]) -> None:
    with socket.socket() as bound:  # holds the port, so that no other process can listen on it
        bound.bind(("127.0.0.1", 0))
        why = notify(f"http://127.0.0.1:{bound.getsockname()[1]}/", PUBLISHED, limits=SHORT, sleep=slept.append)
    assert "no connection to http://127.0.0.1" in why
    assert "\n" not in why
    assert len(slept) == 2


@pytest.mark.parametrize("url", ["ftp://host/hidden", "file:///hidden", "hidden", "http://", "http://[hidden", ""])
def test_what_is_no_webhook_is_refused_and_not_quoted(url: str) -> None:
    with pytest.raises(UserError, match="expected an http:// or https:// URL") as caught:
        check_notify_url(url)
    assert "hidden" not in str(caught.value)
    with pytest.raises(UserError):
        notify(url, PUBLISHED)
