"""`shelfmark serve`: the published index behind HTTP, with a page."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from pipelines.cli.flag_types import Parser, add_noise_flags, natural, positive, seconds, seconds_or_none, size_bytes
from pipelines.cli.trust_flags import add_trust_flags
from pipelines.requests import TrustChoices
from serving.options import MIB, ServeOptions
from store.errors import UserError

_DEFAULTS = ServeOptions("")


def add_flags(parser: Parser) -> None:
    """Where to listen, what to take, what it may cost."""
    parser.add_argument("--store", required=True, metavar="URI", help="where the index lies")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine)")
    parser.add_argument("--port", type=natural, default=8080, help="0 for any free one (default: %(default)s)")
    parser.add_argument(
        "--workers",
        type=positive,
        default=_DEFAULTS.workers,
        metavar="N",
        help="processes, each with its own model (default: %(default)s)",
    )
    parser.add_argument(
        "--poll_interval",
        type=seconds,
        default=_DEFAULTS.poll_interval_s,
        metavar="SECONDS",
        help="how often to look whether another version was published (default: %(default)s)",
    )
    _add_pictures(parser)
    _add_safety(parser)
    add_trust_flags(parser)
    add_noise_flags(parser)


def _add_pictures(parser: argparse.ArgumentParser) -> None:
    pictures = parser.add_argument_group("pictures")
    pictures.add_argument("--no_pictures", action="store_true", help="vectors and ids only: loads no model")
    pictures.add_argument(
        "--pictures",
        metavar="URI",
        help="what the catalog's relative image_uris start from (default: the catalog's folder)",
    )
    pictures.add_argument(
        "--batch_size",
        type=natural,
        default=_DEFAULTS.batch_size,
        help="pictures the model takes at once (default: what suits the hardware)",
    )
    pictures.add_argument(
        "--batch_delay_ms",
        type=seconds_or_none,
        default=_DEFAULTS.batch_delay_ms,
        metavar="MS",
        help="how long decoded pictures wait for those being decoded (default: %(default)s)",
    )
    pictures.add_argument(
        "--max_waiting",
        type=positive,
        default=_DEFAULTS.max_waiting_pictures,
        help="query pictures in work before 503 (default: %(default)s)",
    )
    pictures.add_argument(
        "--max_pixels",
        type=positive,
        default=_DEFAULTS.max_pixels,
        help="of a picture (default: %(default)s)",
    )
    pictures.add_argument(
        "--thumbnail_cache",
        type=size_bytes,
        default=_DEFAULTS.thumbnail_cache_bytes,
        metavar="SIZE",
        help=f"memory for them (default: {_DEFAULTS.thumbnail_cache_bytes // MIB}MiB)",
    )


def _add_safety(parser: argparse.ArgumentParser) -> None:
    safety = parser.add_argument_group("safety")
    safety.add_argument(
        "--max_upload_bytes",
        type=size_bytes,
        default=_DEFAULTS.max_upload_bytes,
        metavar="SIZE",
        help=f"of one request (default: {_DEFAULTS.max_upload_bytes // MIB}MiB)",
    )
    safety.add_argument(
        "--timeout",
        type=seconds,
        default=_DEFAULTS.timeout_s,
        metavar="SECONDS",
        help="for one request (default: %(default)s)",
    )
    safety.add_argument(
        "--grace",
        type=seconds,
        default=_DEFAULTS.grace_s,
        metavar="SECONDS",
        help="for requests at the end (default: %(default)s)",
    )
    safety.add_argument(
        "--allow_fetch",
        nargs="+",
        default=[],
        metavar="HOST",
        help="hosts that pictures may be fetched from by URL, a request's or the catalog's: images.example.com, "
        "*.example.com",
    )
    safety.add_argument("--api_keys", metavar="FILE", help="one key to a line; without it everyone may ask")
    safety.add_argument(
        "--cors",
        nargs="+",
        default=[],
        metavar="ORIGIN",
        help="whose pages may call the API, such as https://shop.example",
    )


def run(flags: argparse.Namespace, beam_flags: list[str]) -> int:
    """Serves until told to stop.

    Raises:
        UserError: A flag makes no sense, or nothing is published.
        StoreError: The published version cannot be served.
    """
    from serving.run import serve
    from serving.sources import open_url_fetcher

    del beam_flags  # takes none
    open_url_fetcher(flags.allow_fetch)  # a host that makes no sense is told now, not by a worker
    trust = TrustChoices(trust=flags.trust, allow_local=flags.allow_local, allow_hosts=flags.allow_hosts)
    options = ServeOptions(
        flags.store,
        pictures=not flags.no_pictures,
        pictures_base=flags.pictures,
        allowed_hosts=tuple(flags.allow_fetch),
        trust=trust.trusted(),
        poll_interval_s=flags.poll_interval,
        batch_size=flags.batch_size,
        batch_delay_ms=flags.batch_delay_ms,
        max_waiting_pictures=flags.max_waiting,
        max_upload_bytes=flags.max_upload_bytes,
        max_pixels=flags.max_pixels,
        timeout_s=flags.timeout,
        grace_s=flags.grace,
        thumbnail_cache_bytes=flags.thumbnail_cache,
        api_keys=read_keys(Path(flags.api_keys)) if flags.api_keys else (),
        cors_origins=tuple(flags.cors),
        workers=flags.workers,
        quiet=flags.quiet,
    )
    if flags.port > 65535:
        raise UserError(f"--port: expected a number from 0 to 65535, found {flags.port}")
    _check_origins(flags.cors)
    serve(options, flags.host, flags.port, flags.verbose)
    return 0


def read_keys(path: Path) -> tuple[str, ...]:
    """The keys in a file: one to a line, blank lines and those that begin with # left out.

    Raises:
        UserError: The file cannot be read, or has none: an open server would be a surprise.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        said = getattr(error, "strerror", None) or "it is no text"
        raise UserError(f"--api_keys {path}: expected a file of keys: {said}") from error
    keys = tuple(line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#"))
    if not keys:
        raise UserError(f"--api_keys {path}: expected at least one key, one to a line, found none")
    return keys


def _check_origins(origins: Sequence[str]) -> None:
    for origin in origins:
        scheme, separator, host = origin.partition("://")
        if origin != "*" and (scheme not in ("http", "https") or not separator or not host or "/" in host):
            raise UserError(f"--cors: expected an origin such as https://shop.example, found {origin!r}")
