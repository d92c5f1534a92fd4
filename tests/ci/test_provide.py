""".ci/run fails, and says why, where it cannot bring what it promises: run with a PATH that lacks this or that."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

CI = Path(__file__).resolve().parent.parent.parent / ".ci"
# What the scripts use of any machine; all else is there only where a test puts it.
ORDINARY = ("bash", "cat", "dirname", "env", "grep", "ls", "mktemp", "rm", "tail")
PROVIDE = "provide SHELFMARK_S3_SERVER versitygw example.com/versitygw@v1"


class Machine:
    """A machine with hardly any programs, and a checkout that holds .ci/ alone."""

    def __init__(self, folder: Path) -> None:
        self.programs, self.checkout, self.calls = folder / "bin", folder / "checkout", folder / "calls"
        self.programs.mkdir()
        shutil.copytree(CI, self.checkout / ".ci")
        for name in ORDINARY:
            path = shutil.which(name)
            assert path is not None
            (self.programs / name).symlink_to(path)

    def add(self, name: str, script: str = "exit 0") -> None:
        """Puts a program there that writes down how it was called."""
        path = self.checkout / name if "/" in name else self.programs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#!/bin/sh\necho "${{0##*/}} $*" >>"{self.calls}"\n{script}\n', encoding="utf-8")
        path.chmod(0o755)

    def called(self) -> list[str]:
        return self.calls.read_text(encoding="utf-8").splitlines() if self.calls.exists() else []

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": str(self.programs), "TMPDIR": str(self.programs.parent), **variables}
        return subprocess.run(
            ["bash", *command], cwd=self.checkout, env=environment, capture_output=True, text=True, check=False
        )

    def source(self, lines: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return self.run("-c", f"set -euo pipefail\nsource .ci/provide.sh\n{lines}\nsettle", **variables)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_server_that_no_go_can_build_fails(machine: Machine) -> None:
    done = machine.source(PROVIDE)
    assert done.returncode == 1
    assert done.stderr.startswith("versitygw: promised to the tests and not here: no Go on PATH")


def test_a_build_that_fails_twice_fails_with_its_last_line(machine: Machine) -> None:
    machine.add("go", "echo fetching >&2\necho 'dial tcp: refused' >&2\nexit 1")
    done = machine.source(PROVIDE)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "versitygw: promised to the tests and not here: dial tcp: refused\n"
    assert machine.called().count("go install example.com/versitygw@v1") == 2


def test_a_build_that_fails_once_is_tried_again(machine: Machine) -> None:
    machine.add("go", f'[ "$(grep -c install "{machine.calls}")" -gt 1 ]')
    done = machine.source(PROVIDE)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("versitygw: here after ")


def test_what_was_built_before_or_is_named_is_not_built(machine: Machine) -> None:
    machine.add(".venv/bin/versitygw")
    machine.add("own-prism")
    done = machine.source(f"{PROVIDE}\nprovide SHELFMARK_PRISM prism example.com/prism@v1", SHELFMARK_PRISM="own-prism")
    assert (done.returncode, done.stderr, machine.called()) == (0, "", [])


def test_a_program_that_is_named_and_not_there_fails(machine: Machine) -> None:
    done = machine.source(PROVIDE, SHELFMARK_S3_SERVER="/nowhere/versitygw")
    assert done.returncode == 1
    assert "SHELFMARK_S3_SERVER names /nowhere/versitygw" in done.stderr


@pytest.mark.parametrize("named", ["", "/nowhere/chromium"])
def test_no_browser_fails(machine: Machine, named: str) -> None:
    done = machine.source("provide_browser", SHELFMARK_CHROMIUM=named)
    assert done.returncode == 1
    assert f"{named or 'chromium'} is not on PATH" in done.stderr


def test_airflow_that_cannot_be_installed_fails(machine: Machine) -> None:
    machine.add(".venv/bin/python")
    machine.add(".venv/airflow/bin/python", "echo 'no matching distribution' >&2\nexit 1")
    done = machine.source("provide_airflow")
    assert done.returncode == 1
    assert "Airflow: promised to the tests and not here: no matching distribution" in done.stderr


def test_airflow_is_not_promised_to_a_python_that_it_does_not_run_on(machine: Machine) -> None:
    machine.add(".venv/bin/python", "exit 1")
    done = machine.source("provide_airflow")
    assert (done.returncode, done.stdout) == (0, "Airflow: not promised on a Python before 3.11\n")


def complete(machine: Machine) -> None:
    for name in ("make", "go", "chromium", "kubectl", ".venv/bin/python", ".venv/airflow/bin/python"):
        machine.add(name)


def test_run_tests_once_everything_is_here(machine: Machine) -> None:
    complete(machine)
    machine.add("make", f'echo "hadolint: $SHELFMARK_HADOLINT, airflow: $SHELFMARK_AIRFLOW_PYTHON" >>"{machine.calls}"')
    done = machine.run(".ci/run")
    assert done.returncode == 0, done.stderr
    programs = machine.checkout / ".venv"
    assert machine.called()[-2:] == [
        "make --no-print-directory test ARGS=-rs -p tests.support.allowed_skips",
        f"hadolint: {programs}/bin/hadolint, airflow: {programs}/airflow/bin/python",
    ]


@pytest.mark.parametrize(
    ("lacking", "said"), [("go", "prism"), ("chromium", "Chromium"), (".venv/airflow/bin/python", "Airflow")]
)
def test_run_fails_before_the_tests_where_something_is_lacking(machine: Machine, lacking: str, said: str) -> None:
    complete(machine)
    machine.add(lacking, "exit 1")
    if "/" not in lacking:
        (machine.programs / lacking).unlink()
    done = machine.run(".ci/run")
    assert done.returncode == 1
    assert f"{said}: promised to the tests and not here: " in done.stderr
    assert not [call for call in machine.called() if " test " in call]


def test_run_fails_where_make_test_fails(machine: Machine) -> None:
    complete(machine)
    machine.add("make", '[ "$2" != test ]')
    assert machine.run(".ci/run").returncode == 1
