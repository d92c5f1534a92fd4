"""The plugin of .ci/run: which skipped tests fail a run, alone and with workers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.allowed_skips import ALLOWED

ROOT = Path(__file__).resolve().parent.parent.parent

SKIPS = """
import pytest
def test_that_runs(): pass
def test_that_is_skipped(): pytest.skip({reason!r})
"""
MODULE_SKIPS = """
import pytest
pytest.importorskip("nothing_of_that_name", reason="needs what is not here")
"""


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    # A folder of its own for temporary files: what another run could not clean up is no warning of this one.
    own = ["--basetemp", str(folder.with_name(f"{folder.name}-own"))]
    plugin = ["-p", "tests.support.allowed_skips"]
    command = [sys.executable, "-m", "pytest", "-q", "-rs", *own, *plugin, *options, str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_an_allowed_reason_passes_and_is_listed(tmp_path: Path) -> None:
    (reason, *_) = sorted(ALLOWED)
    (tmp_path / "test_it.py").write_text(SKIPS.format(reason=reason), encoding="utf-8")
    done = run(tmp_path)
    assert done.returncode == 0
    assert f": {reason}" in done.stdout
    assert "which is not allowed here" not in done.stdout


@pytest.mark.parametrize("workers", ["0", "2"])
def test_another_reason_fails_and_the_closing_line_stays_last(tmp_path: Path, workers: str) -> None:
    (tmp_path / "test_it.py").write_text(SKIPS.format(reason="needs a server"), encoding="utf-8")
    (tmp_path / "test_module.py").write_text(MODULE_SKIPS, encoding="utf-8")
    done = run(tmp_path, "-n", workers)
    assert done.returncode == 1
    assert "1 skipped, which is not allowed here: needs a server" in done.stdout
    assert "1 skipped, which is not allowed here: needs what is not here" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("1 passed, 2 skipped in ")
