"""Starting and stopping: one process, or several that share a socket."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import os
import resource
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from serving.logs import LOG, start_logging
from serving.options import ServeOptions
from serving.protocol import limited_protocol
from store.errors import StoreError, UserError
from store.location import Store
from store.publication import current_version

_SIGN, _GOOD = "reload", "version"
_KEEP_ALIVE_S = 75
_BACKLOG = 1024
_RETRY_WORKER_S = 5.0
_WORKER_SILENCE_S = 20


def serve(options: ServeOptions, host: str, port: int, verbose: bool = False) -> None:
    """Serves until told to stop by SIGTERM or SIGINT.

    Args:
        options: What and how.
        host: Address to listen on.
        port: Port, or 0 for any that is free.
        verbose: Log more.

    Raises:
        UserError: Nothing is published, or the address cannot be listened on.
        StoreError: The published version cannot be served.
    """
    with contextlib.closing(_listen(host, port)) as listening, _runtime_folder(options) as options:
        start_logging(verbose, options.quiet)
        if version := current_version(Store(options.store_uri)):
            LOG.info("opening", extra={"version": version, "store": options.store_uri})
        _raise_file_limit()
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(options.threads))
        url = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
        build = functools.partial(_build_app, options, url, verbose)
        if options.workers > 1:
            _supervise(options, build, listening)
        else:
            # Built here, so that whatever is wrong is told as any command tells it.
            server = uvicorn.Server(_config(options, build()))
            listening.listen(_BACKLOG)  # who comes from now on waits for the first answer, and is not sent away
            # uvicorn handles these and then raises them again, for who started it; nobody did.
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: None)
            server.run([listening])
        LOG.info("stopped")


def _supervise(options: ServeOptions, build: Callable[[], ASGIApp], listening: socket.socket) -> None:
    """Runs the workers, and others in the place of those that die."""
    if current_version(Store(options.store_uri)) is None:
        raise UserError(f"no index is published in {options.store_uri}; build one with shelfmark index")
    listening.listen(_BACKLOG)
    supervisor = Multiprocess(
        _config(options, functools.partial(_build_in_worker, build, Path(options.runtime_folder))), [listening]
    )
    supervisor.run()
    if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
        raise StoreError("a worker cannot serve the published version; its line above says why")


def _build_in_worker(build: Callable[[], ASGIApp], runtime: Path) -> ASGIApp:
    """Ends a worker that has nothing to serve: for good where none ever had, else to be tried again in a while."""
    try:
        return build()
    except (StoreError, UserError) as error:
        LOG.error("failed", extra={"reason": str(error)})
        if not (runtime / _GOOD).exists():
            sys.exit(STARTUP_FAILURE)
        time.sleep(_RETRY_WORKER_S)
        sys.exit(1)


def _config(options: ServeOptions, app: Callable[[], ASGIApp] | ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        factory=options.workers > 1,
        workers=options.workers,
        loop="uvloop",
        http=_protocol(options),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_worker_healthcheck=_WORKER_SILENCE_S,  # opening a large index keeps a worker from answering
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=round(options.grace_s),
    )


def _protocol(options: ServeOptions) -> type:
    return limited_protocol(options.header_timeout_s, options.max_connections)


def _build_app(options: ServeOptions, url: str, verbose: bool) -> ASGIApp:
    """In the process that serves; what it needs is imported there, after the environment is set."""
    from fetch.file_systems import open_file_systems
    from index_builder.search import forget_copy
    from serving.app import create_app
    from serving.published import picture_batch_size
    from serving.service import Service
    from serving.sources import PictureSources
    from serving.versions import Versions
    from serving.watcher import Watcher

    start_logging(verbose, options.quiet)
    if not verbose:
        logging.getLogger().setLevel(logging.CRITICAL)
    open_file_systems()  # importing them takes seconds, and would hold up whoever first looks at a picture in a bucket
    sources = PictureSources(options)
    store = Store(options.store_uri)
    runtime = Path(options.runtime_folder) if options.runtime_folder else None
    versions = Versions(options, sources, runtime / _GOOD if runtime else None)
    watcher = Watcher(
        versions.open_first(),
        functools.partial(current_version, store),
        versions.open,
        poll_interval_s=options.poll_interval_s,
        sign=runtime / _SIGN if runtime else None,
        on_closed=functools.partial(forget_copy, store),
    )
    max_batch = picture_batch_size(options) if options.pictures else 1
    return create_app(Service(options, sources, watcher, max_batch), url)


def _listen(host: str, port: int) -> socket.socket:
    """A bound socket, before anything slow is done; it takes connections once the server is ready."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(found[0], socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(found[4])
        listening.set_inheritable(True)
    except (OSError, OverflowError) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise UserError(f"--host {host} --port {port}: expected an address to listen on: {said}") from error
    return listening


@contextlib.contextmanager
def _runtime_folder(options: ServeOptions) -> Iterator[ServeOptions]:
    """With several workers, a folder for their metrics and for the sign that one was told to reload."""
    if options.workers == 1:
        yield options
        return
    with tempfile.TemporaryDirectory(prefix="shelfmark-serve-") as folder:
        # Read when prometheus_client is imported, which the workers have yet to do.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        os.environ.setdefault("PYTHONWARNINGS", "ignore")  # what libraries have to say as workers import them
        threads = max(1, options.threads // options.workers)
        yield dataclasses.replace(options, runtime_folder=folder, threads=threads)


def _raise_file_limit() -> None:
    """A connection is an open file, and many systems allow 1,024 unless asked for more."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
