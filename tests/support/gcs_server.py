"""fake-gcs-server on loopback: the JSON interface of Google Cloud Storage, kept in memory."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from tests.support.s3_server import ServerProcess, free_port


def gcs_server(binary: str, folder: Path) -> ServerProcess:
    """The server; only its log lies in `folder`."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [binary, "-backend", "memory", "-scheme", "http", "-host", "127.0.0.1", "-port", str(port)]
    command += ["-external-url", url, "-public-host", f"127.0.0.1:{port}", "-log-level", "warn"]
    return ServerProcess(command, port, folder / "log")


def gcs_environment(url: str) -> dict[str, str]:
    """What a process needs to find the server."""
    return {"STORAGE_EMULATOR_HOST": url, "GOOGLE_CLOUD_PROJECT": "test", "NO_GCE_CHECK": "true"}


def gcs_client(url: str) -> Any:
    """A client of the server."""
    import google.cloud.storage as storage
    from google.auth.credentials import AnonymousCredentials

    options = {"api_endpoint": url}
    return storage.Client(project="test", credentials=AnonymousCredentials(), client_options=options)


def new_bucket(url: str) -> str:
    """Makes a bucket of its own for a test."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    gcs_client(url).create_bucket(name)
    return name


def upload_folder(url: str, bucket: str, folder: Path, prefix: str) -> None:
    """Puts every file below a folder into a bucket."""
    target = gcs_client(url).bucket(bucket)
    for path in folder.rglob("*"):
        if path.is_file():
            target.blob(f"{prefix}/{path.relative_to(folder).as_posix()}").upload_from_filename(str(path))
