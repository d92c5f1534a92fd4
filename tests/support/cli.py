"""The command in this process; one of its own takes seconds to start, and is what tests/pipelines/test_main.py runs."""

from __future__ import annotations

import contextlib
import dataclasses
import io

from pipelines.cli.main import main


@dataclasses.dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended, as `subprocess.CompletedProcess` describes one."""

    returncode: int
    stdout: str
    stderr: str


def shelfmark(*arguments: object) -> Done:
    """Runs a command with these arguments."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return Done(code, out.getvalue(), err.getvalue())
