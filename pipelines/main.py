"""The `shelfmark` command: parses flags, runs a command, turns errors into one line and an exit code."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.console import LOG, quiet_libraries
from pipelines.flag_types import add_doctor, new_parser
from pipelines.processor import choose_blas_kernels
from store.errors import GateRefused, StoreError, UserError

if TYPE_CHECKING:
    pass

EXIT_DONE, EXIT_FAILED, EXIT_USER_ERROR, EXIT_GATE_REFUSED = 0, 1, 2, 3


def main(argv: list[str] | None = None) -> int:
    """Runs one command.

    Returns:
        0 done; 2 the caller's mistake; 3 a quality gate refused, nothing was published; 130 interrupted; 1 any other
        failure.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    verbose = "--verbose" in arguments
    quiet_libraries(verbose)
    choose_blas_kernels()
    if arguments[:1] == ["serve"]:
        # It searches in threads of its own; linear algebra that starts more for each small product only waits for them.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        return _run(arguments)
    except UserError as error:
        return _fail(EXIT_USER_ERROR, error)
    except GateRefused as error:
        return _fail(EXIT_GATE_REFUSED, error)
    except KeyboardInterrupt as error:
        said = str(error).split(" [while running")[0]  # Beam's addition
        return _fail(130, said or "interrupted")
    except (StoreError, OSError, MemoryError) as error:
        if verbose:
            LOG.exception("details")
        return _fail(EXIT_FAILED, error)


def _fail(code: int, error: object) -> int:
    sys.stderr.write(f"shelfmark: {' '.join(str(error).split())}\n")
    return code


def _run(arguments: list[str]) -> int:
    if arguments[:1] == ["doctor"]:
        parser, commands = new_parser()
        add_doctor(commands)
    else:
        from pipelines.flags import build_parser

        parser = build_parser()
    flags, rest = parser.parse_known_args(arguments)
    if flags.command == "embed":
        from pipelines.embed_command import run_embed

        return run_embed(flags, rest)
    if flags.command == "reindex":
        from pipelines.reindex import run_reindex

        return run_reindex(flags, rest)
    if flags.command == "index":
        from pipelines.index import run_index

        return run_index(flags, rest)
    if rest:
        raise UserError(f"unknown flag {rest[0]}; see shelfmark {flags.command} --help")
    own = {"demo": _demo, "sample-catalog": _sample_catalog, "doctor": _doctor}
    return own[flags.command](flags) if flags.command in own else _run_reader(flags)


def _run_reader(flags: argparse.Namespace) -> int:
    """The commands that read or tend what others have built."""
    from pipelines.evaluate import run_evaluate
    from pipelines.runs import run_runs
    from pipelines.search import run_search
    from pipelines.serve import run_serve
    from pipelines.versions import run_prune, run_rollback, run_versions

    commands = {
        "search": run_search,
        "evaluate": run_evaluate,
        "versions": run_versions,
        "rollback": run_rollback,
        "prune": run_prune,
        "runs": run_runs,
        "serve": run_serve,
    }
    return commands[flags.command](flags)


def _print(flags: argparse.Namespace, text: str, document: dict[str, Any]) -> None:
    if flags.format == "json":
        print(json.dumps(document, indent=2, ensure_ascii=False))
    elif text:
        print(text)


def _doctor(flags: argparse.Namespace) -> int:
    from pipelines.doctor import examine, render

    report = examine()
    _print(flags, render(report), report.to_dict())
    return EXIT_DONE if report.healthy else EXIT_FAILED


def _sample_catalog(flags: argparse.Namespace) -> int:
    table = _draw(Path(flags.directory), flags.items, flags.views, flags.seed)
    pictures = flags.items * flags.views
    _print(
        flags, f"{pictures:,} pictures of {flags.items:,} items: {table}", {"catalog": str(table), "pictures": pictures}
    )
    return EXIT_DONE


def _draw(directory: Path, items: int, views: int, seed: int) -> Path:
    from samples.catalog import draw_catalog

    def show(done: int, total: int) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\033[Kdrawing {done:,} of {total:,} pictures" if done < total else "\r\033[K")

    return draw_catalog(directory, items=items, views=views, seed=seed, progress=show)


def _demo(flags: argparse.Namespace) -> int:
    from pipelines.demo import Demo

    return Demo(flags, _run).run()


if __name__ == "__main__":
    sys.exit(main())
