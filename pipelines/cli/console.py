"""What a person sees: a progress line on a terminal, a log line now and then elsewhere, no noise of libraries."""

from __future__ import annotations

import json
import logging
import shutil
import sys
import threading
import time
import types
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipelines.log import LOG
from store.terminal_text import one_line, plain_json, plain_text
from transforms.progress import Progress, ProgressFile

if TYPE_CHECKING:
    from pipelines.results import Result

_LEAST_WIDTH = 8
_TERMINAL_EVERY_S = 0.5
_LOG_EVERY_S = 30.0


def quiet_libraries(verbose: bool) -> None:
    """Sends Shelfmark's own messages to stderr and, unless `verbose`, silences every library's."""
    handler = logging.StreamHandler()
    handler.setFormatter(_PlainFormatter("%(message)s"))
    LOG.handlers[:] = [handler]
    LOG.setLevel(logging.INFO)
    LOG.propagate = False
    if verbose:
        of_libraries = logging.StreamHandler()
        of_libraries.setFormatter(_PlainFormatter(logging.BASIC_FORMAT))
        logging.basicConfig(level=logging.INFO, handlers=[of_libraries])
        return
    warnings.simplefilter("ignore")
    logging.getLogger().setLevel(logging.CRITICAL)
    for name in ("apache_beam", "absl", "tensorflow", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


class _PlainFormatter(logging.Formatter):
    """Log lines hold what catalogs, servers and damaged files say."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, with its traceback where it has one."""
        return plain_text(super().format(record))


def show(text: str) -> None:
    """Prints text for a person on stdout: what is printed goes through here or `show_document`."""
    print(plain_text(text))


def show_document(document: Any) -> None:
    """Prints one JSON document on stdout; it is equal to the one given, also where stdout is a terminal."""
    print(plain_json(json.dumps(document, indent=2, ensure_ascii=False)))


def show_result(result: Result, form: str) -> None:
    """Prints what was done: text for a person, or one JSON document."""
    if form == "json":
        show_document(result.to_dict())
    else:
        show(str(result))


def align(rows: Sequence[Sequence[str]], *, numbers: bool = False) -> list[str]:
    """A line to each row, its cells in columns; no cell can break out of its own.

    Args:
        rows: As many cells in each; the first are the headings.
        numbers: All columns but the first are set flush right.
    """
    cells = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    if sys.stdout.isatty():
        widths = fit(widths, shutil.get_terminal_size().columns)
        cells = [[_cut(cell, width) for cell, width in zip(row, widths, strict=True)] for row in cells]
    first, *others = widths
    set_flush = str.rjust if numbers else str.ljust
    return ["  ".join([name.ljust(first), *map(set_flush, values, others)]).rstrip() for name, *values in cells]


def fit(widths: Sequence[int], room: int) -> list[int]:
    """Widths of columns that are two apart and fit, as far as no column need be narrower than 8: the widest give way.

    Args:
        widths: Of the widest cell in each column.
        room: Of the terminal.
    """
    fitted = list(widths)
    while sum(fitted) + 2 * (len(fitted) - 1) > room and max(fitted) > _LEAST_WIDTH:
        fitted[fitted.index(max(fitted))] -= 1
    return fitted


def _cut(cell: str, width: int) -> str:
    return cell if len(cell) <= width else f"{cell[: width - 1]}…"


def describe_progress(progress: Progress, now_s: float) -> str:
    """One line: pictures done of total, rate since the first embedding, rejected, time left."""
    done = progress.embedded + progress.rejected + progress.reused
    if not progress.total:
        return "reading the catalog"
    if not done:
        return f"0 of {progress.total:,} pictures: comparing with what is known, loading the model"
    line = f"{done:,} of {progress.total:,} pictures"
    elapsed_s = now_s - progress.first_embedding_at_s
    if progress.first_embedding_at_s and elapsed_s > 1:
        rate = progress.embedded / elapsed_s
        line += f", {rate:.1f}/s"
        if rate:
            line += f", {format_seconds((progress.total - done) / rate)} left"
    line += f", {progress.reused:,} reused" if progress.reused else ""
    return line + (f", {progress.rejected:,} rejected" if progress.rejected else "")


def format_seconds(seconds: float) -> str:
    """Seconds as a person says them: 42s, 3m12s, 2h05m."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


class ProgressDisplay:
    """Shows a run's progress on stderr from a thread of its own while the `with` block runs."""

    def __init__(self, progress: ProgressFile) -> None:
        self._progress = progress
        self._stop = threading.Event()
        self._terminal = sys.stderr.isatty()
        self._thread = threading.Thread(target=self._show, daemon=True)

    def __enter__(self) -> ProgressDisplay:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._terminal:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()

    def _show(self) -> None:
        while not self._stop.wait(_TERMINAL_EVERY_S if self._terminal else _LOG_EVERY_S):
            line = describe_progress(self._progress.read(), time.time())
            if self._terminal:
                sys.stderr.write(f"\r\033[K{line}")
                sys.stderr.flush()
            else:
                LOG.info(line)
