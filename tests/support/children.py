"""Acts on stores in processes of their own, cheap to start: to be killed, interrupted or stopped at a chosen step.

They are forked from one that has loaded all libraries, has opened no connection and runs no threads.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import importlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import tempfile
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import NoReturn

from store.errors import GateRefused, StoreError, UserError
from store.location import Store
from tests.support.steps import before_every_step
from tests.support.store_acts import ACTS

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["tests.support.exact_reindex", "tests.support.children", "boto3", "google.cloud.storage", "pyarrow.parquet"]
)

KILL, FAIL, FAIL_ON, INTERRUPT, HOLD = "kill", "fail", "fail from here on", "interrupt", "hold"
"""What is done at a step of a local store: SIGKILL, one EIO, EIO for ever, KeyboardInterrupt, a wait for `release`."""


@dataclasses.dataclass(frozen=True, slots=True)
class AtStep:
    """What is done at a step of a local store.

    Attributes:
        number: Of the step, from 0; a negative one is none of them.
        what: KILL, FAIL, FAIL_ON, INTERRUPT or HOLD.
    """

    number: int
    what: str


@dataclasses.dataclass(frozen=True, slots=True)
class Ended:
    """How an act ended.

    Attributes:
        code: The process's exit code, negative for a signal.
        error: What it raised: class and message; "" where it did not, or was killed.
        steps: Operations on files below a local store, as far as it came.
    """

    code: int
    error: str
    steps: tuple[str, ...]

    @property
    def done(self) -> bool | None:
        """Whether it said that it was done; None where it was killed."""
        return None if self.code else not self.error


class Child:
    """A process that does something to a store."""

    def __init__(self, act: str, uri: str, environment: dict[str, str], at_step: AtStep | None = None) -> None:
        """Starts it.

        Args:
            act: Of ACTS, or "module:function" of one that takes a Store.
            uri: Of the store.
            environment: Added to the process's own.
            at_step: What is done to it at an operation on files; None where they are not watched.
        """
        self._connection, inner = _CONTEXT.Pipe()
        self._signals, signals = _CONTEXT.Pipe(duplex=False)
        self._process = _CONTEXT.Process(target=_perform, args=(act, uri, environment, at_step, inner, signals))
        self._process.start()
        inner.close()
        signals.close()

    def kill(self) -> None:
        """Kills it; it does nothing more once this returns."""
        self._process.kill()
        multiprocessing.connection.wait([self._process.sentinel])

    def interrupt(self) -> None:
        """Sends SIGTERM, which it takes for KeyboardInterrupt; the signal has arrived once this returns."""
        assert self._process.pid is not None
        os.kill(self._process.pid, signal.SIGTERM)
        assert os.read(self._signals.fileno(), 1)

    def stop(self) -> None:
        """Stops it, as a machine that sleeps is stopped."""
        assert self._process.pid is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def wake(self) -> None:
        """Has it go on where it was stopped."""
        assert self._process.pid is not None
        os.kill(self._process.pid, signal.SIGCONT)

    @property
    def has_ended(self) -> bool:
        """Whether it is no more, or has said all that it says."""
        return self._connection.poll()

    def wait_held(self) -> None:
        """Waits until it holds itself.

        Raises:
            AssertionError: It ended without.
        """
        said = self._connection.recv()
        assert said == "held", said

    def release(self) -> None:
        """Lets it go on."""
        self._connection.send("go")

    def wait(self) -> Ended:
        """Waits for its end."""
        said: tuple[str, tuple[str, ...]] = ("", ())
        with contextlib.suppress(EOFError):  # it was killed
            said = self._connection.recv()
        self._process.join()
        assert self._process.exitcode is not None
        return Ended(self._process.exitcode, *said)


def _perform(
    act: str, uri: str, environment: dict[str, str], at_step: AtStep | None, parent: Connection, signals: Connection
) -> NoReturn:
    os.environ.update(environment)
    tempfile.tempdir = None  # another TMPDIR counts
    _take_signals(signals)
    steps: list[str] = []
    if at_step is not None:
        _watch(uri, at_step, steps, parent)
    error = ""
    try:
        _find(act)(Store(uri))
    except (StoreError, UserError, GateRefused, KeyboardInterrupt) as raised:
        error = f"{type(raised).__name__}: {raised}"
    except BaseException:  # the test shows it
        error = traceback.format_exc()
    parent.send((error, tuple(steps)))
    os._exit(0)


def _find(act: str) -> Callable[[Store], object]:
    module, _, function = act.rpartition(":")
    if not module:
        return ACTS[act].run
    found: Callable[[Store], object] = getattr(importlib.import_module(module), function)
    return found


def _take_signals(signals: Connection) -> None:
    """Takes SIGTERM as `shelfmark reindex` does, and tells the parent as soon as it is there."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    os.set_blocking(signals.fileno(), False)
    signal.set_wakeup_fd(signals.fileno())


def _watch(folder: str, at_step: AtStep, steps: list[str], parent: Connection) -> None:
    def react(step: str) -> None:
        number = len(steps)
        steps.append(step)
        if number == at_step.number or (at_step.what == FAIL_ON and 0 <= at_step.number < number):
            _do(at_step.what, step, parent)

    before_every_step(folder, react)


def _do(what: str, step: str, parent: Connection) -> None:
    if what == KILL:
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == INTERRUPT:
        raise KeyboardInterrupt
    elif what == HOLD:
        parent.send("held")
        parent.recv()
    else:
        raise OSError(errno.EIO, os.strerror(errno.EIO), step)
