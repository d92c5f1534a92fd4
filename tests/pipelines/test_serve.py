"""`shelfmark serve`: its flags, what a person gets wrong, and what it cannot begin with."""

from __future__ import annotations

import logging
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fetch.trust import Trust
from pipelines.cli.main import main, run_command
from pipelines.cli.serve import read_keys
from pipelines.log import LOG as OURS
from serving import run as serving_run
from serving.logs import LOG
from serving.options import MIB, ServeOptions
from store.errors import UserError


@pytest.fixture
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leaves the loggers and the environment as they were."""
    uvicorn = logging.getLogger("uvicorn")
    before = [(logger, list(logger.handlers), logger.level, logger.propagate) for logger in (OURS, LOG, uvicorn)]
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


def test_quiet_reaches_the_server(served):
    assert served("--quiet")[0] == ServeOptions("somewhere", quiet=True)


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
