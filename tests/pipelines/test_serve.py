"""`shelfmark serve`: its flags, what a person gets wrong, and how its processes begin and end."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fetch.trust import Trust
from index_builder.build.builder import build_index
from index_builder.build.request import BuildRequest
from pipelines.cli.main import main, run_command
from pipelines.cli.serve import read_keys
from serving import run as serving_run
from serving.logs import LOG
from serving.options import MIB, ServeOptions
from store.errors import UserError
from store.location import Store
from tests.support.serving import Client, ServedStore, ServeProcess, make_served_store, query_vector, serve_command

VECTORS_ONLY = ("--no_pictures", "--poll_interval", "3600", "--grace", "20")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ServedStore:
    return make_served_store(tmp_path_factory.mktemp("served"))


@pytest.fixture
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leaves the loggers and the environment as they were."""
    uvicorn = logging.getLogger("uvicorn")
    before = [(logger, list(logger.handlers), logger.level, logger.propagate) for logger in (LOG, uvicorn)]
    environment = dict(os.environ)
    yield
    for logger, handlers, level, propagate in before:
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logger.propagate = propagate
    os.environ.clear()
    os.environ.update(environment)


Served = tuple[ServeOptions, str, int, bool]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Served]:
    """What flags lead to."""
    calls: list[Served] = []
    monkeypatch.setattr(serving_run, "serve", lambda *arguments: calls.append(arguments))

    def served(*flags: str) -> Served:
        assert run_command(["serve", "--store", "somewhere", *flags]) == 0
        return calls.pop()

    return served


def test_without_flags_it_serves_this_machine_alone_with_the_usual_limits(served):
    options, host, port, verbose = served()
    assert options == ServeOptions("somewhere")
    assert (host, port, verbose) == ("127.0.0.1", 8080, False)


def test_every_flag_has_its_place(served, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("one\n")
    options, host, port, verbose = served(
        *("--host", "::1", "--port", "0", "--workers", "3", "--poll_interval", "0.5", "--no_pictures"),
        *("--pictures", "s3://bucket/folder", "--batch_size", "4", "--batch_delay_ms", "0", "--max_waiting", "7"),
        *("--max_pixels", "1000", "--thumbnail_cache", "1MiB", "--max_upload_bytes", "5MB", "--timeout", "2.5"),
        *("--grace", "3", "--allow_fetch", "images.example.com", "*.example.com", "--api_keys", str(keys)),
        *("--cors", "https://shop.example", "http://localhost:3000", "--verbose"),
        *("--trust", "none", "--allow_local", "pictures", "--allow_hosts", "images.internal"),
    )
    assert options == ServeOptions(
        "somewhere",
        pictures=False,
        pictures_base="s3://bucket/folder",
        allowed_hosts=("images.example.com", "*.example.com"),
        trust=Trust("none", ("pictures",), ("images.internal",)),
        poll_interval_s=0.5,
        batch_size=4,
        batch_delay_ms=0.0,
        max_waiting_pictures=7,
        max_upload_bytes=5_000_000,
        max_pixels=1000,
        timeout_s=2.5,
        grace_s=3.0,
        thumbnail_cache_bytes=MIB,
        api_keys=("one",),
        cors_origins=("https://shop.example", "http://localhost:3000"),
        workers=3,
    )
    assert (host, port, verbose) == ("::1", 0, True)
    assert pickle.loads(pickle.dumps(options)) == options  # each worker gets them so


def test_keys_are_the_lines_that_say_something(tmp_path):
    path = tmp_path / "keys"
    path.write_text("# of the shop\nfirst-key  \n\n  second key\n   # no key\nключ\r\n")
    assert read_keys(path) == ("first-key", "second key", "ключ")


@pytest.mark.parametrize("content", [b"", b"\n \n", b"# none\n", b"\xff\xfe\x00"])
def test_a_file_without_keys_would_open_the_server_to_all(tmp_path, content):
    path = tmp_path / "keys"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"^--api_keys .*: expected "):
        read_keys(path)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--port", "65536"], "--port: expected a number from 0 to 65535, found 65536"),
        (["--port", "-1"], "--port: expected a whole number from 0, found '-1'"),
        (["--port", "http"], "--port: expected a whole number from 0, found 'http'"),
        (["--host", "no such host"], "--host no such host --port 8080: expected an address to listen on: "),
        (["--host", "192.0.2.1"], "--host 192.0.2.1 --port 8080: expected an address to listen on: "),
        (["--workers", "0"], "--workers: expected a whole number from 1, found '0'"),
        (["--poll_interval", "0"], "--poll_interval: expected seconds, more than 0, found '0'"),
        (["--batch_delay_ms", "-1"], "--batch_delay_ms: "),
        (["--max_upload_bytes", "lots"], "--max_upload_bytes: expected a size such as 500MB or 6GiB, found 'lots'"),
        (["--allow_fetch", "https://images.example.com/"], "--allow_fetch: "),
        (["--allow_fetch", "*"], "--allow_fetch: "),
        (["--cors", "shop.example"], "--cors: expected an origin such as https://shop.example, found 'shop.example'"),
        (["--cors", "https://shop.example/"], "--cors: expected an origin such as "),
        (["--cors", "ftp://shop.example"], "--cors: expected an origin such as "),
        (["--api_keys", "no-such-file"], "--api_keys no-such-file: expected a file of keys: No such file"),
        (["--api_keys", "."], "--api_keys .: expected a file of keys: Is a directory"),
        (["--store", "no-such-store"], "no-such-store"),
        (["--limit", "3"], "unknown flag --limit"),
        (["--work", "2"], "unknown flag --work"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(capsys, monkeypatch, tmp_path, as_before, flags, said):
    monkeypatch.chdir(tmp_path)
    check_mistake(capsys, flags, said)


def test_a_port_that_is_taken(capsys, as_before):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        said = f"--host 127.0.0.1 --port {port}: expected an address to listen on: Address already in use"
        check_mistake(capsys, ["--port", str(port)], said)


def check_mistake(capsys: pytest.CaptureFixture[str], flags: list[str], said: str) -> None:
    store = [] if "--store" in flags else ["--store", "nothing-here"]
    assert main(["serve", *store, "--no_pictures", *flags]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert output.err.startswith("shelfmark: ")
    assert said in output.err
    assert "Traceback" not in output.err


def test_a_store_is_needed(capsys):
    assert main(["serve"]) == 2
    assert capsys.readouterr().err == (
        "shelfmark: the following arguments are required: --store; see shelfmark serve --help\n"
    )


def fail_to_begin(store: Path, workers: str) -> tuple[int, str]:
    """Exit code and stderr of a server that cannot begin, in a process of its own: it might begin again for ever."""
    command = [sys.executable, "-m", "pipelines.cli.main", "serve", "--store", str(store), "--port", "0"]
    with subprocess.Popen([*command, "--workers", workers], stderr=subprocess.PIPE, text=True) as process:
        try:
            _, error = process.communicate(timeout=120)
        finally:
            process.terminate()  # and its workers with it
    return process.returncode, error


@pytest.mark.parametrize("workers", ["1", "2"])
def test_where_nothing_is_published_there_is_nothing_to_serve(tmp_path, workers):
    (tmp_path / "store").mkdir()
    code, error = fail_to_begin(tmp_path / "store", workers)
    assert (code, error.count("\n")) == (2, 1)
    assert error.startswith("shelfmark: ")
    assert "published" in error


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_is_published_and_cannot_be_served_is_one_line_and_exit_1(tmp_path, workers):
    current = tmp_path / "store" / "indexes" / "CURRENT"
    current.parent.mkdir(parents=True)
    current.write_text("no version's name")
    code, error = fail_to_begin(tmp_path / "store", workers)
    assert (code, error.count("\n")) == (1, 1)
    assert error.startswith(f"shelfmark: {current}: expected the name of a version, found ")


def until(holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < end_s, "it never came to hold"
        time.sleep(0.005)


def check_ended(server: ServeProcess) -> None:
    """Ended as it was told to, saying nothing of errors."""
    assert server.process.returncode == 0, server.lines
    assert server.lines[-1]["event"] == "stopped"
    assert not [line for line in server.lines if line.get("level") == "error" or "Traceback" in line["event"]]


def ask_version(port: int) -> str:
    """From a connection of its own, so that any of the processes may answer."""
    with Client(port, timeout_s=60) as client:
        version: str = client.ask("GET", "/v1/index").json["version"]
        return version


def test_it_opens_then_listens_and_at_sigterm_finishes_what_it_has_begun(store):
    body = b'{"item_id": "sku-3", "k": 2}'
    with serve_command(store.uri, *VECTORS_ONLY) as server, Client(server.port) as client:
        opening, opened, listening = server.lines[:3]
        assert (opening["event"], opening["version"]) == ("opening", store.versions[-1])
        assert (opened["event"], opened["version"], opened["vectors"]) == ("opened", store.versions[-1], 24)
        assert listening["event"] == "listening"
        assert listening["url"] == f"http://127.0.0.1:{server.port}"
        assert client.search(b"a picture").status == 422
        with socket.create_connection(("127.0.0.1", server.port), timeout=120) as slow:
            kind = "Host: a\r\nContent-Type: application/json"
            head = f"POST /v1/search HTTP/1.1\r\n{kind}\r\nContent-Length: {len(body)}\r\n\r\n"
            slow.sendall(head.encode() + body[:5])
            until(lambda: client.metric("shelfmark_requests_in_flight") == 2)  # that one and the question
            server.process.send_signal(signal.SIGTERM)
            until(lambda: is_closed(server.port))
            assert server.process.poll() is None
            slow.sendall(body[5:])
            answer = slow.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.count(b'"image_id"') == 2
        server.process.wait(120)
    check_ended(server)


def is_closed(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=120):
            return False
    except ConnectionError:
        return True


def workers_of(process: int) -> list[int]:
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


@contextlib.contextmanager
def stopped(process: int) -> Iterator[None]:
    """A process that does nothing for a while."""
    os.kill(process, signal.SIGSTOP)
    try:
        until(lambda: Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "T")
        yield
    finally:
        os.kill(process, signal.SIGCONT)


@pytest.mark.slow
def test_two_workers_are_two_processes_that_reload_and_stop_together(tmp_path):
    store = make_served_store(tmp_path)

    def opened(version: str) -> int:
        return [line.get("version") for line in server.lines if line["event"] == "opened"].count(version)

    with serve_command(store.uri, *VECTORS_ONLY, "--workers", "2") as server:
        first = store.versions[-1]
        until(lambda: opened(first) == 2)
        one, other = workers = workers_of(server.process.pid)
        for idle in (one, other):
            with stopped(idle):
                assert ask_version(server.port) == first
        with Client(server.port) as client:
            assert client.search({"vector": query_vector(), "k": 3}).status == 200
            assert client.metric('shelfmark_requests_total{method="GET",route="/v1/index",status="200"}') == 2

        second = build_index(Store(store.uri), BuildRequest(k=3, target_recall=0.5)).version
        with Client(server.port) as client:
            assert client.ask("POST", "/v1/reload").json == {"version": second, "changed": True}
        until(lambda: opened(second) == 2)
        for idle in (one, other):
            with stopped(idle):
                assert ask_version(server.port) == second
        server.process.terminate()
        server.process.wait(120)
        assert not [worker for worker in workers if Path(f"/proc/{worker}").exists()]
    check_ended(server)


def test_sigint_ends_it_as_well(store):
    with serve_command(store.uri, *VECTORS_ONLY) as server:
        assert ask_version(server.port) == store.versions[-1]
        server.process.send_signal(signal.SIGINT)
        server.process.wait(120)
    check_ended(server)
