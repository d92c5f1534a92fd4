"""Runs an act on a store again and again, each time killed (SIGKILL) one step later, until it gets through.

A step is a file opened, renamed or deleted below the store. Each act runs in a process of its own, forked from one that
has no threads. What must hold after every kill is checked by the caller.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from store.location import Store

ROOT = Path(__file__).resolve().parent.parent.parent


def killed_at_every_step(folder: Path, act: Callable[[], object], check: Callable[[int], object]) -> int:
    """Calls `check(step)` in this process after each kill.

    Returns:
        How many steps the act has.
    """
    for step in range(1000):
        child = os.fork()
        if child == 0:
            _die_at(folder, step)
            try:
                act()
            except BaseException:  # the child must never return into its parent's code
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        if not os.WIFSIGNALED(status):
            assert os.waitstatus_to_exitcode(status) == 0
            return step
        assert os.WTERMSIG(status) == signal.SIGKILL
        check(step)
    raise AssertionError("expected the act to end")


def _die_at(folder: Path, step: int) -> None:
    left = step

    def count() -> None:
        nonlocal left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("open", "os.rename") and str(arguments[0]).startswith(str(folder)):
            count()

    sys.addaudithook(hook)
    for name in ("remove", "remove_folder", "create"):  # Arrow's own calls raise no audit events
        _count_before(name, count)


def _count_before(name: str, count: Callable[[], None]) -> None:
    plain = getattr(Store, name)

    def counted(self: Store, *arguments: Any) -> Any:
        count()
        return plain(self, *arguments)

    setattr(Store, name, counted)


def run_alone(module: str, function: str, folder: Path) -> int:
    """Calls module.function(folder) in a fresh process, which may fork, and returns the number that it prints."""
    code = f"import pathlib, {module} as m; print(m.{function}(pathlib.Path({str(folder)!r})))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)
