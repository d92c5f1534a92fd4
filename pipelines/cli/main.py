"""The `shelfmark` command: finds the command, parses its flags, turns errors into one line and an exit code."""

from __future__ import annotations

import logging
import os
import sys

from pipelines.cli.commands import BY_NAME, COMMANDS
from pipelines.cli.console import quiet_libraries, show
from pipelines.cli.flag_types import nearest
from pipelines.log import LOG
from pipelines.processor import choose_blas_kernels
from store.errors import GateRefused, StoreError, UserError
from store.release import VERSION
from store.terminal_text import one_line

EXIT_DONE, EXIT_FAILED, EXIT_USER_ERROR, EXIT_GATE_REFUSED, EXIT_INTERRUPTED = 0, 1, 2, 3, 130


def main(argv: list[str] | None = None) -> int:
    """Runs one command.

    Returns:
        0 done; 2 the caller's mistake; 3 a quality gate refused, nothing was published; 130 interrupted; 1 any other
        failure.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    verbose = "--verbose" in arguments
    quiet_libraries(verbose)
    LOG.setLevel(logging.WARNING if "--quiet" in arguments else logging.INFO)
    choose_blas_kernels()
    if arguments[:1] == ["serve"]:
        # It searches in threads of its own; linear algebra that starts more for each small product only waits for them.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        return run_command(arguments)
    except UserError as error:
        return _fail(EXIT_USER_ERROR, error)
    except GateRefused as error:
        return _fail(EXIT_GATE_REFUSED, error)
    except KeyboardInterrupt as error:
        said = str(error).split(" [while running")[0]  # Beam's addition
        return _fail(EXIT_INTERRUPTED, said or "interrupted")
    except (StoreError, OSError, MemoryError) as error:
        if verbose:
            LOG.exception("details")
        return _fail(EXIT_FAILED, error)


def _fail(code: int, error: object) -> int:
    said = " ".join(str(error).split()) or type(error).__name__
    sys.stderr.write(f"shelfmark: {one_line(said)}\n")
    return code


def run_command(arguments: list[str]) -> int:
    """Runs the command that the arguments begin with, and returns its exit code.

    Raises:
        UserError: There is no such command, or its flags make no sense.
    """
    name, rest = (arguments[0], arguments[1:]) if arguments else ("help", [])
    if name in ("-h", "--help", "help"):
        return _help(rest)
    if name == "--version":
        show(f"shelfmark {VERSION}")
        return EXIT_DONE
    if name not in BY_NAME:
        near = nearest(name, BY_NAME)
        meant = f"did you mean {' or '.join(near)}?" if near else "see shelfmark --help"
        what = "flag before the command" if name.startswith("-") else "command"
        raise UserError(f"unknown {what} {name}: {meant}")
    command = BY_NAME[name]
    flags, beam_flags = command.parser().parse_known_args(rest)
    return command.load().run(flags, beam_flags)


def _help(topic: list[str]) -> int:
    if topic[:1] and topic[0] in BY_NAME:
        BY_NAME[topic[0]].parser().print_help()
        return EXIT_DONE
    if topic:
        return run_command(topic[:1])
    width = max(len(command.name) for command in COMMANDS)
    lines = [f"  {command.name:<{width}}  {command.summary}" for command in COMMANDS]
    show(
        "usage: shelfmark COMMAND [flags]\n\nTurns product-catalog pictures into a searchable index.\n\ncommands:\n"
        + "\n".join(lines)
        + "\n\nshelfmark COMMAND --help lists its flags; shelfmark --version says which release this is."
    )
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
