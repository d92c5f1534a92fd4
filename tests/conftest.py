"""What every test relies on: a quiet TensorFlow, examples that repeat, and a reason where prism is missing."""

from __future__ import annotations

import os

# TensorFlow reads it once, when it is first imported.
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what is marked `prism` without the binary; with it, SHELFMARK_PRISM says where it is."""
    prism = os.environ.get("SHELFMARK_PRISM") or shutil.which("prism")
    if prism and os.access(prism, os.X_OK):
        os.environ["SHELFMARK_PRISM"] = prism
        return
    found = f"{prism} cannot be run" if prism else "prism is not on PATH and SHELFMARK_PRISM is not set"
    skip = pytest.mark.skip(reason=f"needs Beam's prism runner: {found}")
    for item in items:
        if item.get_closest_marker("prism"):
            item.add_marker(skip)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB; skips where none can be mounted."""
    folder = tmp_path / "small-disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
