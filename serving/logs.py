"""Log lines as JSON, one document a line, on stderr."""

from __future__ import annotations

import datetime
import functools
import logging
import os
import sys
from typing import Any, TextIO

import orjson

from store.terminal_text import plain_json

LOG = logging.getLogger("shelfmark.serving")

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


def log_request(document: dict[str, Any]) -> None:
    """A line about one request, at a fifth of what a call of the logger costs: there is one for every request."""
    if LOG.isEnabledFor(logging.INFO):
        moment = datetime.datetime.now(datetime.timezone.utc)
        line = {"time": _shown(moment), "level": "info", "event": "request", **document}
        _stderr().write(_line(line) + "\n")


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


def log_as_json(verbose: bool = False) -> None:
    """Sends the server's own messages to stderr as JSON, and uvicorn's warnings with them."""
    handler = logging.StreamHandler(_stderr())
    handler.setFormatter(JsonFormatter())
    for logger, level in ((LOG, logging.INFO), (logging.getLogger("uvicorn"), logging.WARNING)):
        logger.handlers[:] = [handler]
        logger.setLevel(logging.DEBUG if verbose else level)
        logger.propagate = False
