from __future__ import annotations

import dataclasses
import random
import socket
import threading
import time
import tracemalloc
import urllib.parse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from fetch.fetcher import FetchOptions, ImageFetcher
from fetch.policy import ON_REQUEST
from store.rejects import Reason, Rejected
from tests.support.fake_time import FakeTime
from tests.support.fetching import opened, rejection
from tests.support.http_server import PictureServer, jpeg

MIB = 1 << 20
# Short pauses, as these tests wait for real sockets; limits that nothing meets unless a test is about them.
OPTIONS = FetchOptions(
    max_image_bytes=2 * MIB,
    connect_timeout_s=300,
    read_timeout_s=300,
    deadline_s=600,
    backoff_s=0.01,
    max_backoff_s=0.02,
)


@pytest.fixture(scope="module")
def server() -> Iterator[PictureServer]:
    with PictureServer() as running:
        yield running


@pytest.fixture
def fetcher() -> Iterator[ImageFetcher]:
    with opened(OPTIONS) as made:
        yield made


# --- HTTP: answers


def test_a_picture_arrives_whole(server: PictureServer, fetcher: ImageFetcher) -> None:
    assert fetcher.fetch(server.url("/ok/5.jpg")) == jpeg(5)
    assert fetcher.fetch(server.url("/redirect")) == jpeg(1)
    assert fetcher.fetch(server.url("/gzip")) == jpeg(1)
    assert fetcher.fetch(server.url(f"/big?bytes={MIB + 7}&chunked=1")) == bytes(MIB + 7)
    assert any(agent.startswith("shelfmark/") for agent in server.user_agents)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/status/404", Reason.NOT_FOUND),
        ("/status/410", Reason.NOT_FOUND),
        ("/status/401", Reason.FORBIDDEN),
        ("/status/403", Reason.FORBIDDEN),
        ("/status/451", Reason.FORBIDDEN),
        ("/status/400", Reason.FETCH_ERROR),
        ("/status/204", Reason.FETCH_ERROR),
        ("/status/302", Reason.FETCH_ERROR),
        ("/to-file", Reason.FETCH_ERROR),
        ("/gzip-broken", Reason.FETCH_ERROR),
        ("/lying-huge", Reason.TOO_LARGE),
        ("/gzip-bomb", Reason.TOO_LARGE),
        (f"/big?bytes={2 * MIB + 1}", Reason.TOO_LARGE),
        (f"/big?bytes={2 * MIB + 1}&chunked=1", Reason.TOO_LARGE),
    ],
)
def test_an_answer_that_will_not_change_is_asked_for_once(
    server: PictureServer, fetcher: ImageFetcher, path: str, reason: Reason
) -> None:
    counted = path.partition("?")[0]
    before = server.requests[counted]
    assert rejection(fetcher, server.url(path)).reason is reason
    assert server.requests[counted] == before + 1


@pytest.mark.parametrize("path", ["/status/408", "/status/425", "/status/429", "/status/500", "/status/503"])
def test_a_passing_status_is_asked_for_attempts_times(server: PictureServer, fetcher: ImageFetcher, path: str) -> None:
    rejected = rejection(fetcher, server.url(path))
    assert rejected.reason is Reason.FETCH_ERROR
    assert f"HTTP {path[-3:]}" in rejected.detail
    assert server.requests[path] == OPTIONS.attempts


@pytest.mark.parametrize("path", ["/429-then-200", "/500-then-200", "/reset-then-200", "/truncated-then-200"])
def test_a_failure_that_passes_costs_one_more_request(server: PictureServer, fetcher: ImageFetcher, path: str) -> None:
    assert fetcher.fetch(server.url(path)) == jpeg(1)
    assert server.requests[path] == 2


def test_a_body_that_stays_short_is_rejected(server: PictureServer, fetcher: ImageFetcher) -> None:
    assert rejection(fetcher, server.url("/truncated")).reason is Reason.FETCH_ERROR
    assert server.requests["/truncated"] == OPTIONS.attempts


def test_redirects_are_followed_up_to_the_limit(server: PictureServer, fetcher: ImageFetcher) -> None:
    rejected = rejection(fetcher, server.url("/loop"))
    assert rejected.reason is Reason.FETCH_ERROR
    assert "5 redirects" in rejected.detail
    assert server.requests["/loop"] == OPTIONS.max_redirects + 1


@pytest.mark.parametrize("to", ["http://[::1", "http://h:port/a.jpg"])
def test_a_redirect_to_a_malformed_url_is_a_reject(server: PictureServer, fetcher: ImageFetcher, to: str) -> None:
    rejected = rejection(fetcher, server.url(f"/redirect/malformed?to={urllib.parse.quote(to, safe='')}"))
    assert rejected.reason is Reason.FETCH_ERROR
    assert "well-formed" in rejected.detail


def test_stray_bytes_after_a_body_do_not_reach_the_next_picture(server: PictureServer, fetcher: ImageFetcher) -> None:
    assert fetcher.fetch(server.url("/lying-short")) == jpeg(1)[:10]
    assert fetcher.fetch(server.url("/ok/9.jpg")) == jpeg(9)


@pytest.mark.parametrize("uri", ["http://", "http://h:port/a.jpg", "http://[::1/a.jpg", "http://" + "a" * 300 + "/"])
def test_a_malformed_url_is_a_reject(fetcher: ImageFetcher, uri: str) -> None:
    assert rejection(fetcher, uri).reason is Reason.FETCH_ERROR


def test_a_refused_connection_is_retried_and_explained() -> None:
    time_ = FakeTime()
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        rejected = rejection(
            ImageFetcher(OPTIONS, ON_REQUEST, clock=time_.clock, sleep=time_.sleep, jitter=random.Random(1)),
            f"http://127.0.0.1:{unheard.getsockname()[1]}/a.jpg",
        )
    assert rejected.reason is Reason.FETCH_ERROR
    assert "refused" in rejected.detail
    assert len(time_.slept_s) == OPTIONS.attempts - 1


def test_credentials_are_sent_to_their_host_and_never_shown(server: PictureServer, fetcher: ImageFetcher) -> None:
    host = f"127.0.0.1:{server.port}"
    assert fetcher.fetch(f"http://user:secret@{host}/auth") == jpeg(1)
    for uri in (
        f"http://user:s3cr3t@{host}/auth",
        f"http://user:s3cr3t@{host}/status/500",
        f"http://user:s3cr3t@{host}/loop",
        f"http://{host}/redirect/x?to=http://user:s3cr3t@{host}/status/404",
        f"http://{host}/redirect/x?to=ftp://user:s3cr3t@{host}/",
        "http://user:s3cr3t@127.0.0.1:port/a.jpg",
        "http://user:s3cr3t/x@127.0.0.1/a.jpg",
    ):
        detail = rejection(fetcher, uri).detail
        assert "s3cr3t" not in urllib.parse.unquote(detail)
    # Named by another host than the one the credentials were written for, they are not sent.
    elsewhere = urllib.parse.quote(f"http://localhost:{server.port}/auth", safe="")
    assert rejection(fetcher, f"http://user:secret@{host}/redirect/y?to={elsewhere}").reason is Reason.FORBIDDEN


# --- HTTP: servers that do not end


@pytest.mark.parametrize("path", ["/drip", "/drip-head", "/endless-100", "/endless-trailers", "/stall"])
def test_the_deadline_ends_every_kind_of_waiting(server: PictureServer, path: str) -> None:
    fetcher = ImageFetcher(dataclasses.replace(OPTIONS, deadline_s=0.2), ON_REQUEST)
    started_s = time.monotonic()
    assert rejection(fetcher, server.url(path)).reason is Reason.TIMEOUT
    assert time.monotonic() - started_s > 0.19
    if path != "/stall":  # a server that sends nothing does not notice
        assert server.wait_for_hangup(path)


def test_a_read_timeout_is_retried(server: PictureServer) -> None:
    fetcher = ImageFetcher(dataclasses.replace(OPTIONS, read_timeout_s=0.02, attempts=2), ON_REQUEST)
    assert rejection(fetcher, server.url("/stall/read")).reason is Reason.TIMEOUT
    # What was sent is still read by a server that was too busy to: it may count a request after its client has left.
    assert server.wait_for_requests("/stall/read", 2)
    assert fetcher.fetch(server.url("/ok/1.jpg")) == jpeg(1)
    assert server.requests["/stall/read"] == 2


def test_an_endless_server_is_hung_up_on(server: PictureServer, fetcher: ImageFetcher) -> None:
    assert rejection(fetcher, server.url("/endless")).reason is Reason.TOO_LARGE
    assert server.wait_for_hangup("/endless")
    assert server.requests["/endless"] == 1


def test_a_gzip_bomb_does_not_fill_memory(server: PictureServer, fetcher: ImageFetcher) -> None:
    rejection(fetcher, server.url("/gzip-bomb"))  # builds the bomb outside the measurement
    tracemalloc.start()
    rejection(fetcher, server.url("/gzip-bomb"))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 8 * MIB


# --- HTTP: many at once


def test_latency_is_hidden_by_threads_but_a_host_is_not_flooded() -> None:
    """A server that answers nobody before sixteen ask at once: without so many connections it never would."""
    options = dataclasses.replace(OPTIONS, connections_per_host=16, parallel_fetches=64)
    numbers = range(200)
    with PictureServer() as server, ThreadPoolExecutor(options.parallel_fetches) as threads:
        fetcher = ImageFetcher(options, ON_REQUEST)
        urls = [server.url(f"/ok/{number}.jpg?together=16") for number in numbers]
        assert list(threads.map(fetcher.fetch, urls)) == [jpeg(number) for number in numbers]
        assert server.peak_concurrency == 16
        assert server.connections <= 16  # each reused a dozen times
        fetcher.close()


def test_a_connection_is_reused_after_pictures_errors_and_redirects(fetcher: ImageFetcher) -> None:
    with PictureServer() as server:
        for path in ("/ok/1.jpg", "/redirect", "/gzip", "/big?bytes=9&chunked=1"):
            fetcher.fetch(server.url(path))
        for path in ("/status/404", "/nothing"):
            rejection(fetcher, server.url(path))
        fetcher.fetch(server.url("/ok/2.jpg"))
        assert server.connections == 1


def test_waiting_for_a_seat_does_not_count_against_the_deadline(
    server: PictureServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    time_ = FakeTime()

    class LateSeat(threading.Semaphore):
        def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
            time_.sleep(3 * OPTIONS.deadline_s)
            return super().acquire(blocking, timeout)

    monkeypatch.setattr(threading, "BoundedSemaphore", LateSeat)
    fetcher = ImageFetcher(OPTIONS, ON_REQUEST, clock=time_.clock, sleep=time_.sleep, jitter=random.Random(1))
    assert fetcher.fetch(server.url("/redirect")) == jpeg(1)
    assert time_.slept_s == [3 * OPTIONS.deadline_s] * 2, "once for each of two requests"


def test_good_pictures_arrive_while_others_misbehave(fetcher: ImageFetcher) -> None:
    """With limits far away: what hangs does so until the server closes, after the good ones have come."""
    bad = ["/drip", "/endless", "/status/500", "/truncated", "/gzip-bomb", "/stall", "/loop", "/lying-short"]

    def outcome(url: str) -> bytes | Reason:
        try:
            return fetcher.fetch(url)
        except Rejected as rejected:
            return rejected.reason

    with ThreadPoolExecutor(32) as threads:
        with PictureServer() as server:
            others = {path: threads.submit(outcome, server.url(path)) for path in bad}
            good = list(threads.map(fetcher.fetch, [server.url(f"/ok/{number}.jpg") for number in range(64)]))
            assert not others["/drip"].done()
            assert not others["/stall"].done()
        outcomes = {path: other.result() for path, other in others.items()}
    assert good == [jpeg(number) for number in range(64)]
    assert outcomes["/stall"] is Reason.FETCH_ERROR


def test_a_closed_fetcher_opens_again(server: PictureServer, fetcher: ImageFetcher) -> None:
    fetcher.fetch(server.url("/ok/1.jpg"))
    fetcher.close()
    fetcher.close()
    assert fetcher.fetch(server.url("/ok/2.jpg")) == jpeg(2)
