"""A real S3 server (versitygw over a folder) on loopback, for as long as a `with` block runs."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import types
import uuid
from pathlib import Path
from typing import Any

ACCESS_KEY, SECRET_KEY, REGION = "test-key", "test-secret", "us-east-1"


class ServerProcess:
    """A server program that listens on a loopback port of its own."""

    def __init__(self, command: list[str], port: int, log: Path) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._command = command
        self._log = log

    def __enter__(self) -> ServerProcess:
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + 120
        while not _answers(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._process.kill()
                raise RuntimeError(f"{self._command[0]} does not start: {self._log.read_text()[-500:]}")
            time.sleep(0.02)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(120)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def s3_server(binary: str, folder: Path) -> ServerProcess:
    """The server, its data below `folder`.

    What it knows of an object is an attribute of its file, or lies in a file beside where the disk has no attributes;
    such a pair is not replaced as one, so that readers meet a wrong checksum now and then and must ask again.
    """
    port = free_port()
    for name in ("data", "meta"):
        (folder / name).mkdir(parents=True)
    beside = [] if _has_attributes(folder / "data") else ["--sidecar", str(folder / "meta")]
    command = [binary, "--port", f"127.0.0.1:{port}", "--region", REGION, "--quiet"]
    command += ["--access", ACCESS_KEY, "--secret", SECRET_KEY]
    command += ["posix", *beside, str(folder / "data")]
    return ServerProcess(command, port, folder / "log")


def _has_attributes(folder: Path) -> bool:
    try:
        os.setxattr(folder, "user.probe", b"1")
    except OSError:
        return False
    os.removexattr(folder, "user.probe")
    return True


def s3_environment(url: str) -> dict[str, str]:
    """What a process needs to find the server and to be let in."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def s3_client(url: str) -> Any:
    """A boto3 client of the server."""
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
    )


def new_bucket(url: str) -> str:
    """Makes a bucket of its own for a test."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    s3_client(url).create_bucket(Bucket=name)
    return name


def upload_folder(url: str, bucket: str, folder: Path, prefix: str) -> None:
    """Puts every file below a folder into a bucket."""
    client = s3_client(url)
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent) / name
            client.upload_file(str(path), bucket, f"{prefix}/{path.relative_to(folder).as_posix()}")
