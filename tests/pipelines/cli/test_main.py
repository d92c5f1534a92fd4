"""What a person types before, after and instead of a command's flags."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pipelines.cli.commands import BY_NAME, COMMANDS
from store.release import VERSION
from tests.support.cli import shelfmark


@pytest.mark.parametrize("arguments", [(), ("help",), ("--help",), ("-h",)])
def test_alone_it_lists_its_commands(arguments):
    done = shelfmark(*arguments)
    assert done.returncode == 0
    listed = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")]
    assert listed == [command.name for command in COMMANDS]


def test_every_command_is_listed_with_what_it_does():
    for command in COMMANDS:
        assert f"  {command.summary}" in shelfmark("help").stdout


@pytest.mark.parametrize("command", sorted(BY_NAME))
def test_help_of_a_command_is_that_of_its_flags(command, capsys):
    done = shelfmark("help", command)
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: shelfmark {command} ")
    with pytest.raises(SystemExit):
        shelfmark(command, "--help")


def test_it_says_which_release_it_is():
    assert shelfmark("--version").stdout == f"shelfmark {VERSION}\n"


def test_it_is_a_module_too():
    command = [sys.executable, "-m", "shelfmark", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == f"shelfmark {VERSION}\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("serach",), "unknown command serach: did you mean search?"),
        (("help", "rollbakc"), "unknown command rollbakc: did you mean rollback?"),
        (("frobnicate",), "unknown command frobnicate: see shelfmark --help"),
        (("--store", "s"), "unknown flag before the command --store: see shelfmark --help"),
        (("embed", "--stroe", "s"), "unknown flag --stroe: did you mean --store?; see shelfmark embed --help"),
        (("embed", "--wieghts=x"), "unknown flag --wieghts: did you mean --weights?; see shelfmark embed --help"),
        (("search", "--imgae", "x"), "unknown flag --imgae: did you mean --image"),
        (("index", "--store", "s", "--num_workers=3"), "unknown flag --num_workers=3; see shelfmark index --help"),
        (("versions", "--store", "s", "--colour", "x"), "unknown flag --colour; see shelfmark versions --help"),
        (("embed", "--catalog", "c"), "the following arguments are required: --store; see shelfmark embed --help"),
    ],
)
def test_a_slip_is_one_line_with_the_nearest_that_there_is(arguments, says):
    done = shelfmark(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(f"shelfmark: {says}")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", ["--max_reject_ratio", "--max-reject-ratio"])
@pytest.mark.parametrize("form", ["{}=0.5", "{} 0.5"])
def test_flags_have_dashes_or_underscores(name, form):
    parser = BY_NAME["embed"].parser()
    flags, rest = parser.parse_known_args(
        [*form.format(name).split(), "--catalog", "c", "--store", "s", "--num_workers=2"]
    )
    assert (flags.max_reject_ratio, rest) == (0.5, ["--num_workers=2"])


def test_a_flag_of_beam_is_not_taken_for_a_slip():
    command = ["--catalog", "c", "--store", "s", "--num_workers", "3", "--job_name=x"]
    _, rest = BY_NAME["reindex"].parser().parse_known_args(command)
    assert rest == ["--num_workers", "3", "--job_name=x"]


def test_quiet_leaves_the_result_and_what_goes_wrong(tmp_path):
    loud = shelfmark("unlock", "--store", tmp_path)
    quiet = shelfmark("unlock", "--store", tmp_path, "--quiet")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, loud.stdout, "")
    assert shelfmark("prune", "--store", tmp_path / "none", "--keep", "1", "--quiet").stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_commands_and_flags(shell):
    done = shelfmark("completion", shell)
    assert done.returncode == 0
    for word in ("reindex", "rejects", "max_reject_ratio"):
        assert word in done.stdout
