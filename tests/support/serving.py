"""Servers to attack: the real application over HTTP on loopback, on a small real store; only the encoder is a fake."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import http.client
import json
import signal
import socket
import sys
import threading
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from PIL import Image

from encoder.picture_encoder import PictureEncoder
from encoder.spec import EncoderSpec
from index_builder.build.builder import build_index
from index_builder.build.request import BuildRequest
from serving.app import create_app
from serving.options import ServeOptions
from serving.protocol import limited_protocol
from serving.published import ServedVersion, open_published, picture_batch_size
from serving.service import Service
from serving.sources import PictureSources
from serving.watcher import Watcher
from store.location import Store
from store.publication import current_version
from tests.support.fakes import FAKE_DIM, FakeEncoder
from tests.support.hostile import encoded, photo
from tests.support.small_embed import embed_again, write_catalog

ODD_ID = "odd/a b?#%&=+;\u00fc\u4e2d\U0001f45f"
"""An id that every version has: what a URL must escape, and letters from beyond."""

ITEMS, VIEWS = 8, 3
EDITION = "edition"


@dataclasses.dataclass(frozen=True)
class ServedStore:
    """A store with published versions.

    Attributes:
        uri: Of the store.
        editions: Version -> the value that `edition` has in all of its rows; the last one is published.
        pictures: The files of the last version's catalog.
    """

    uri: str
    editions: dict[str, str]
    pictures: list[Path]

    @property
    def versions(self) -> list[str]:
        return list(self.editions)


def make_served_store(folder: Path, editions: Sequence[str] = ("one",)) -> ServedStore:
    """Embeds and indexes a catalog for each edition. Some ids are the edition's own, the others are in all of them."""
    found: dict[str, str] = {}
    for edition in editions:
        catalog = _write_edition(folder / "catalog", edition)
        embed_again(catalog, folder / "store", full=True)
        version = build_index(Store(str(folder / "store")), BuildRequest(k=3, target_recall=0.5)).version
        found[version] = edition
    return ServedStore(str(folder / "store"), found, sorted((folder / "catalog").glob("*.jpg")))


def _write_edition(folder: Path, edition: str) -> Path:
    folder.mkdir(exist_ok=True)
    rows = []
    for number in range(ITEMS * VIEWS):
        path = folder / f"{number:02d}.jpg"
        if not path.exists():
            path.write_bytes(encoded(_distinct(number), "JPEG", quality=90))
        item = number // VIEWS
        rows.append(
            {
                "image_id": ODD_ID if number == 0 else f"{edition}-{number}" if number % 2 else f"both-{number}",
                "item_id": ODD_ID if item == 0 else f"sku-{item}",
                "image_uri": path.name,
                "category": ("shoe", "bag", "hat")[item % 3],
                EDITION: edition,
            }
        )
    return write_catalog(folder / f"{edition}.csv", rows)


def _distinct(number: int) -> Image.Image:
    """A picture whose quarters have colours of their own, so that the fake encoder tells it from the others."""
    colours = np.random.default_rng(number).integers(0, 256, (2, 2, 3), np.uint8)
    return Image.fromarray(colours).resize((96, 64 + number), Image.Resampling.NEAREST)


class _Announcing(uvicorn.Server):
    """Says when it takes requests."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


@dataclasses.dataclass(frozen=True)
class Running:
    """A server that takes requests.

    Attributes:
        port: On 127.0.0.1.
        service: Its parts, to look into.
    """

    port: int
    service: Service

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextlib.contextmanager
def running(
    options: ServeOptions, encoder: FakeEncoder | None = None, sources: PictureSources | None = None
) -> Iterator[Running]:
    """Serves a store in a thread of this process, as `shelfmark serve` does; pictures are embedded by a fake.

    Args:
        options: The limits.
        encoder: The fake.
        sources: Where the catalog's pictures are; by default where the store says.
    """
    sources = sources or PictureSources(options)
    opener = functools.partial(_open, options, sources, encoder or FakeEncoder())
    watcher = Watcher(
        opener(None, None),
        functools.partial(current_version, Store(options.store_uri)),
        opener,
        poll_interval_s=options.poll_interval_s,
    )
    service = Service(options, sources, watcher, picture_batch_size(options))
    config = uvicorn.Config(
        create_app(service),
        loop="uvloop",
        http=limited_protocol(options.header_timeout_s, options.max_connections),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=1024,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=2,
    )
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listening:
        server = _Announcing(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            assert server.ready.wait(120)
            yield Running(listening.getsockname()[1], service)
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive(), "the server does not stop"


def _open(
    options: ServeOptions,
    sources: PictureSources,
    encoder: FakeEncoder,
    version: str | None,
    before: ServedVersion | None,
) -> ServedVersion:
    """What `open_published` gives, with the fake in the first version; later ones take it over, or are refused."""
    if before is not None:
        return open_published(options, sources, version, before)
    opened = open_published(dataclasses.replace(options, pictures=False), sources, version)
    spec = EncoderSpec.from_manifest(opened.searcher.manifest.encoder)
    return dataclasses.replace(opened, model=PictureEncoder(spec, encoder))


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a server answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One connection that is kept, and opened again where the server ended it between requests."""

    def __init__(self, port: int, timeout_s: float = 120.0) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)

    def ask(self, method: str, path: str, body: bytes | Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """One request. A body that is not bytes is sent as JSON; `path` is sent as it stands."""
        headers = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        try:
            self._connection.request(method, path, body, headers)
            response = self._connection.getresponse()
            read = response.read()
        except BaseException:
            self._connection.close()
            raise
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, read)

    def search(self, body: bytes | Any, query: str = "", media_type: str = "image/jpeg") -> Answer:
        """`POST /v1/search`."""
        headers = {"Content-Type": media_type} if isinstance(body, bytes) else {}
        return self.ask("POST", f"/v1/search{query}", body, headers)

    def metric(self, name: str) -> float:
        """The value of a series, labels included in the name."""
        lines = self.ask("GET", "/metrics").body.decode().splitlines()
        values = [float(line[len(name) + 1 :]) for line in lines if line.startswith(f"{name} ")]
        assert len(values) == 1, f"{name}: found {len(values)} times"
        return values[0]

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def quoted(name: str) -> str:
    """An id as a part of a path."""
    return urllib.parse.quote(name, safe="")


def exchange(port: int, sent: bytes, timeout_s: float = 120.0) -> bytes:
    """Sends bytes as they are, and reads until the server ends the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
        received = []
        with contextlib.suppress(ConnectionError):
            connection.sendall(sent)
        with contextlib.suppress(ConnectionError):
            while part := connection.recv(1 << 16):
                received.append(part)
        return b"".join(received)


def multipart(picture: bytes, fields: Mapping[str, str] | None = None, name: str = "image") -> tuple[bytes, str]:
    """A form with a file, and its content type."""
    boundary = "7d1f3b5a9c2e4608"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'.encode()
        for field, value in (fields or {}).items()
    ]
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="a.jpg"\r\n'
    parts += [head.encode(), b"Content-Type: image/jpeg\r\n\r\n", picture, f"\r\n--{boundary}--\r\n".encode()]
    return b"".join(parts), f"multipart/form-data; boundary={boundary}"


def query_picture() -> bytes:
    """A JPEG that is in no catalog."""
    return encoded(photo(), "JPEG")


def query_vector(seed: int = 0) -> list[float]:
    """As long as the fake encoder's embeddings."""
    return np.random.default_rng(seed).random(FAKE_DIM).tolist()


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    with running(ServeOptions(sys.argv[1], poll_interval_s=3600, threads=2)) as server:
        print(json.dumps({"event": "listening", "url": server.url}), file=sys.stderr, flush=True)
        signal.sigwait({signal.SIGTERM})
