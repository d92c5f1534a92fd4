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
from typing import NoReturn

from tests.support.steps import before_opens_and_renames

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
            _run_in_child(act)
        status = os.waitpid(child, 0)[1]
        if not os.WIFSIGNALED(status):
            assert os.waitstatus_to_exitcode(status) == 0
            return step
        assert os.WTERMSIG(status) == signal.SIGKILL
        check(step)
    raise AssertionError("expected the act to end")


def _die_at(folder: Path, step: int) -> None:
    left = step

    def count(_: str) -> None:
        nonlocal left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    before_opens_and_renames(str(folder), count)


def steps_of(folder: Path, act: Callable[[], object]) -> list[str]:
    """The kinds of steps that the act takes, in the order they are first met; a kind leaves out names of runs."""
    log = folder.parent / "steps"
    child = os.fork()
    if child == 0:
        before_opens_and_renames(str(folder), lambda step: _note(log, step))
        _run_in_child(act)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return list(dict.fromkeys(log.read_text().splitlines()))


def killed_before(folder: Path, act: Callable[[], object], step: str) -> bool:
    """Runs the act until it is about to take a step of this kind; False where it got through without one."""
    child = os.fork()
    if child == 0:

        def react(met: str) -> None:
            if met == step:
                os.kill(os.getpid(), signal.SIGKILL)

        before_opens_and_renames(str(folder), react)
        _run_in_child(act)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.waitstatus_to_exitcode(status) == 0
    return False


def _run_in_child(act: Callable[[], object]) -> NoReturn:
    try:
        act()
    except BaseException:  # the child must never return into its parent's code
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _note(log: Path, step: str) -> None:
    with open(log, "a", encoding="utf-8") as file:
        file.write(f"{step}\n")


def run_alone(module: str, function: str, folder: Path) -> int:
    """Calls module.function(folder) in a fresh process, which may fork, and returns the number that it prints."""
    code = f"import pathlib, {module} as m; print(m.{function}(pathlib.Path({str(folder)!r})))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)
