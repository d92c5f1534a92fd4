"""Log lines on stderr: to a pipe or a file as JSON, one document a line; to a terminal in words."""

from __future__ import annotations

import datetime
import functools
import logging
import os
import sys
from collections.abc import Mapping
from typing import Any, TextIO

import orjson

from store.terminal_text import one_line, plain_json, plain_text

LOG = logging.getLogger("shelfmark.serving")
_OURS = logging.getLogger("shelfmark")  # what is said before and beside the server

# What every record has; anything else was given as `extra` and belongs in the line.
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "taskName", "color_message"}


class JsonFormatter(logging.Formatter):
    """time, level, event, and whatever `extra` the call gave."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        moment = datetime.datetime.fromtimestamp(record.created, datetime.timezone.utc)
        document: dict[str, Any] = {
            "time": _shown(moment),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        document.update({name: value for name, value in vars(record).items() if name not in _USUAL})
        if record.exc_info:
            document["traceback"] = self.formatException(record.exc_info)
        return _line(document)


class LineFormatter(logging.Formatter):
    """The same for a person: time of day, level where it is no news, event, and the rest as name=value."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback's."""
        moment = datetime.datetime.fromtimestamp(record.created)
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        extra = {name: value for name, value in vars(record).items() if name not in _USUAL}
        line = _words(moment, f"{level}{record.getMessage()}", extra)
        return f"{line}\n{plain_text(self.formatException(record.exc_info))}" if record.exc_info else line


def _words(moment: datetime.datetime, event: str, extra: Mapping[str, Any]) -> str:
    pairs = (f"{name}={value}" for name, value in extra.items() if value not in (None, ""))
    return one_line(" ".join([f"{moment:%H:%M:%S}", event, *pairs]))


def log_request(document: dict[str, Any]) -> None:
    """A line about one request, at a fifth of what a call of the logger costs: there is one for every request."""
    if LOG.isEnabledFor(logging.INFO):
        stderr = _stderr()
        if stderr.isatty():
            stderr.write(_words(datetime.datetime.now(), "request", document) + "\n")
            return
        moment = datetime.datetime.now(datetime.timezone.utc)
        line = {"time": _shown(moment), "level": "info", "event": "request", **document}
        stderr.write(_line(line) + "\n")


def _line(document: dict[str, Any]) -> str:
    """JSON escapes C0 alone; DEL, C1 and bidirectional overrides would reach a terminal that shows the log."""
    return plain_json(orjson.dumps(document, default=str).decode())


def _shown(moment: datetime.datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _stderr() -> TextIO:
    """Where lines go: a way of our own to stderr, or what somebody has put in its place."""
    try:
        is_plain = sys.stderr.fileno() == 2
    except (OSError, ValueError):  # it is no file
        is_plain = False
    return _own_stderr() if is_plain else sys.stderr


@functools.cache
def _own_stderr() -> TextIO:
    """Stays what stderr was: file descriptor 2 leads nowhere while an index is opened, to keep ScaNN quiet."""
    return open(os.dup(2), "w", buffering=1, encoding="utf-8", errors="backslashreplace")


def start_logging(verbose: bool = False, quiet: bool = False) -> None:
    """Sends the server's own messages to stderr, and uvicorn's warnings with them: JSON, or words on a terminal.

    Args:
        verbose: Debug messages, too.
        quiet: Warnings and errors only.
    """
    stderr = _stderr()
    handler = logging.StreamHandler(stderr)
    handler.setFormatter(LineFormatter() if stderr.isatty() else JsonFormatter())
    own = logging.WARNING if quiet else logging.INFO
    for logger, level in ((_OURS, own), (LOG, own), (logging.getLogger("uvicorn"), logging.WARNING)):
        logger.handlers[:] = [handler]
        logger.setLevel(logging.DEBUG if verbose else level)
        logger.propagate = False
