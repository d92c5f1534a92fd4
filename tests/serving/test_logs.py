"""Log lines: one JSON document each, or words on a terminal."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from serving.logs import LOG, JsonFormatter, log_request, start_logging
from tests.support.killed import ROOT

OURS, UVICORN = logging.getLogger("shelfmark"), logging.getLogger("uvicorn")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Leaves the loggers as they were."""
    before = [(logger, list(logger.handlers), logger.level, logger.propagate) for logger in (OURS, LOG, UVICORN)]
    yield
    for logger, handlers, level, propagate in before:
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logger.propagate = propagate


def record(message: str, *arguments: object, **extra: object) -> logging.LogRecord:
    return LOG.makeRecord(LOG.name, logging.ERROR, "file.py", 7, message, arguments, None, extra=extra)


def test_a_line_has_the_time_the_level_the_event_and_what_was_given_with_it():
    made = record("%d went", 3, version="v", path={"a": [1, None]}, odd=object)
    made.created = 1_700_000_000.25
    line = JsonFormatter().format(made)
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "error",
        "event": "3 went",
        "version": "v",
        "path": {"a": [1, None]},
        "odd": "<class 'object'>",
    }


def test_a_traceback_is_one_field_of_the_same_line():
    try:
        raise ZeroDivisionError("what\nwas it")
    except ZeroDivisionError:
        made = LOG.makeRecord(LOG.name, logging.ERROR, "file.py", 7, "failed", (), sys.exc_info())
    line = JsonFormatter().format(made)
    assert "\n" not in line
    document = json.loads(line)
    assert document["event"] == "failed"
    assert document["traceback"].startswith("Traceback (most recent call last):\n")
    assert document["traceback"].endswith("ZeroDivisionError: what\nwas it")


def test_a_message_cannot_end_its_line_and_begin_another():
    line = JsonFormatter().format(record('a\n{"event": "request"}\u2028'))
    assert line.count("\n") == 0
    assert json.loads(line)["event"] == 'a\n{"event": "request"}\u2028'


def test_the_server_speaks_json_on_stderr_and_the_libraries_only_of_what_is_wrong(capsys):
    start_logging()
    LOG.info("opened", extra={"version": "v"})
    LOG.debug("not this")
    UVICORN.info("nor this")
    logging.getLogger("uvicorn.error").warning("but this")
    output = capsys.readouterr()
    assert output.out == ""
    assert [json.loads(line)["event"] for line in output.err.splitlines()] == ["opened", "but this"]


def test_verbosely_the_libraries_say_more(capsys):
    start_logging(verbose=True)
    LOG.debug("this")
    logging.getLogger("uvicorn.error").info("and this")
    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == ["this", "and this"]


def test_it_may_be_said_twice_and_every_line_still_comes_once(capsys):
    start_logging()
    start_logging()
    LOG.info("opened")
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_request_is_logged_as_all_else_is(capsys):
    start_logging()
    LOG.info("request", extra={"status": 200})
    log_request({"status": 200})
    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert list(first) == list(second)
    assert {**first, "time": ""} == {**second, "time": ""}


def test_no_request_is_logged_where_nobody_wants_to_know(capsys):
    start_logging()
    LOG.setLevel(logging.WARNING)
    log_request({"status": 200})
    assert capsys.readouterr().err == ""


SILENCED = """
import os
from serving.logs import LOG, start_logging, log_request
start_logging()
start_logging()
LOG.info("before")
saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
os.dup2(null, 2)
LOG.info("opened")
log_request({"status": 200})
os.write(2, b"from C++")
os.dup2(saved, 2)
LOG.info("after \u00e9")
os._exit(0)  # and nothing waits in a buffer
"""


def test_no_line_is_lost_while_stderr_leads_nowhere():
    run = subprocess.run([sys.executable, "-c", SILENCED], cwd=ROOT, check=True, capture_output=True)
    events = [json.loads(line)["event"] for line in run.stderr.splitlines()]
    assert events == ["before", "opened", "request", "after \u00e9"]


def test_a_line_that_a_terminal_shows_moves_no_cursor(capfd):
    evil = "\x1b[2J\x9b1m\u202e\x7f\u2028"
    line = JsonFormatter().format(record("said", reason=evil))
    assert line.isprintable()
    assert json.loads(line)["reason"] == evil
    start_logging()
    log_request({"method": evil})
    LOG.error("refused", extra={"reason": evil})
    written = capfd.readouterr().err
    assert all(line.isprintable() for line in written.split("\n"))
    assert [json.loads(line).get("method") for line in written.splitlines()] == [evil, None]


def test_on_a_terminal_lines_are_words(monkeypatch):
    """A pseudo-terminal: what a person sees from the first line on."""
    leader, follower = os.openpty()
    with open(follower, "w", buffering=1, encoding="utf-8") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        start_logging()
        LOG.info("opened", extra={"version": "v", "nothing": None})
        LOG.warning("untrained", extra={"weights": "random\x1b[2J"})
        log_request({"method": "GET", "status": 200})
        said = b""
        while b"status=200" not in said:
            said += os.read(leader, 9999)
    lines = said.decode().splitlines()
    os.close(leader)
    assert [line.split(" ", 1)[1] for line in lines] == [
        "opened version=v",
        r"warning: untrained weights=random\x1b[2J",
        "request method=GET status=200",
    ]
    assert all(re.fullmatch(r"\d\d:\d\d:\d\d", line.split()[0]) for line in lines)


def test_quietly_only_what_is_wrong_is_said(capsys):
    start_logging(quiet=True)
    LOG.info("opened")
    LOG.error("refused")
    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == ["refused"]
