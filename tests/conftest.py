"""What every test relies on: a quiet TensorFlow, examples that repeat, and a reason where a program is missing."""

from __future__ import annotations

import os

# TensorFlow reads it once, when it is first imported.
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import dataclasses
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.gcs_server import gcs_server as start_gcs_server
from tests.support.s3_server import ServerProcess
from tests.support.s3_server import s3_server as start_s3_server

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@dataclasses.dataclass(frozen=True, slots=True)
class Needed:
    """What tests with a marker need beyond the pinned set."""

    what: str
    variable: str
    binary: str
    module: str = ""

    def missing(self) -> str:
        """Why they cannot run, or ""; where they can, the environment variable says where the binary is."""
        beside_python = Path(sys.executable).with_name(self.binary)
        path = os.environ.get(self.variable) or shutil.which(self.binary) or str(beside_python)
        if not os.access(path, os.X_OK):
            if os.environ.get(self.variable):
                return f"needs {self.what}: {path} cannot be run"
            return f"needs {self.what}: {self.binary} is not on PATH and {self.variable} is not set"
        if self.module and not _is_installed(self.module):
            return f"needs {self.module}, which is not installed"
        os.environ[self.variable] = path
        return ""


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even its parent
        return False


NEEDED = {
    "prism": Needed("Beam's prism runner", "SHELFMARK_PRISM", "prism"),
    "s3": Needed("an S3 server", "SHELFMARK_S3_SERVER", "versitygw", "boto3"),
    "gcs": Needed("a server for gs://", "SHELFMARK_GCS_SERVER", "fake-gcs-server", "google.cloud.storage"),
    "browser": Needed("a browser", "SHELFMARK_CHROMIUM", "chromium", "playwright"),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips, with a reason, what is marked for a program that is not here; files with slow tests come first.

    Processes take whole files in this order: one that takes minutes, begun last, leaves all others waiting.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
    for marker, needed in NEEDED.items():
        why = needed.missing()
        for item in items:
            if why and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A real S3 server, one for all tests of a session."""
    with start_s3_server(os.environ["SHELFMARK_S3_SERVER"], tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def gcs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server for gs://, one for all tests of a session."""
    with start_gcs_server(os.environ["SHELFMARK_GCS_SERVER"], tmp_path_factory.mktemp("gcs")) as server:
        yield server


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
