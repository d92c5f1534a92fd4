"""Shelfmark's own flags."""

from __future__ import annotations

import argparse
from typing import NoReturn

from encoder.decode import RESIZE_MODES, DecodeOptions
from encoder.source import PRECISIONS
from pipelines.embed import EncoderRequest
from store.errors import UserError
from transforms.fetch import FetchOptions

DEFAULT_MAX_REJECT_RATIO = 0.1


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = _Parser(prog="shelfmark", description="Turns product-catalog pictures into a searchable index.")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser, metavar="COMMAND")
    _add_demo(commands)
    _add_sample_catalog(commands)
    _add_embed(commands)
    doctor = _add_command(commands, "doctor", "what to know before a long run: versions, precision, GPUs, disk, memory")
    _add_format(doctor)
    return parser


def _add_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, summary: str, epilog: str = ""
) -> argparse.ArgumentParser:
    return commands.add_parser(name, help=summary, description=summary, epilog=epilog, allow_abbrev=False)


def _add_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=("text", "json"), default="text", help="json: one document on stdout")
    parser.add_argument("--verbose", action="store_true", help="show what the libraries have to say")


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add_command(commands, "demo", "draw a sample catalog and embed it")
    parser.add_argument("directory", metavar="DIR", nargs="?", default="demo", help="where to (default: demo)")
    parser.add_argument("--items", type=_positive, default=100, help="products to draw (default: %(default)s)")
    parser.add_argument("--views", type=_positive, default=3, help="pictures of each (default: %(default)s)")
    _add_format(parser)


def _add_sample_catalog(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add_command(commands, "sample-catalog", "draw a catalog of made-up products")
    parser.add_argument("directory", metavar="DIR", help="where the pictures and catalog.csv go")
    parser.add_argument("--items", type=_positive, default=100, help="products to draw (default: %(default)s)")
    parser.add_argument("--views", type=_positive, default=3, help="pictures of each (default: %(default)s)")
    parser.add_argument("--seed", type=_natural, default=0, help="same seed, same bytes (default: %(default)s)")
    _add_format(parser)


def _add_embed(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add_command(
        commands,
        "embed",
        "embed every picture of a catalog into a new snapshot",
        "Flags that are not listed go to Apache Beam: --runner, --direct_num_workers, --project, ...",
    )
    parser.add_argument("--catalog", required=True, metavar="URI", help="folder, glob, .csv, .jsonl or .parquet")
    parser.add_argument("--store", required=True, metavar="URI", help="folder, gs:// or s3:// where snapshots lie")
    parser.add_argument(
        "--max_reject_ratio",
        type=_ratio,
        default=DEFAULT_MAX_REJECT_RATIO,
        help="commit nothing, exit 3, when more of the rows are rejected (default: %(default)s)",
    )
    _add_encoder_flags(parser.add_argument_group("encoder"))
    _add_fetch_flags(parser.add_argument_group("pictures"))
    workers = parser.add_argument_group("workers that embed")
    workers.add_argument("--min_ram", metavar="SIZE", help="memory hint for the embedding step alone, such as 16GB")
    workers.add_argument("--accelerator", metavar="HINT", help="accelerator hint for the embedding step alone")
    _add_format(parser)


def _add_encoder_flags(group: argparse._ArgumentGroup) -> None:
    default = EncoderRequest()
    group.add_argument("--backbone", default=default.backbone, help="any keras.applications model (default: %(default)s)")
    group.add_argument(
        "--weights",
        default=default.weights,
        metavar="WEIGHTS",
        help="imagenet, a .weights.h5, .h5 or .keras file, random or random:SEED (default: %(default)s)",
    )
    group.add_argument("--precision", choices=PRECISIONS, default=default.precision, help="default: %(default)s")
    group.add_argument("--image_size", type=_positive, default=0, metavar="PX", help="default: the backbone's own")
    group.add_argument(
        "--resize",
        choices=RESIZE_MODES,
        default=default.resize,
        help="pad: letterbox on white; crop: centre, as ImageNet evaluation; stretch (default: %(default)s)",
    )
    group.add_argument("--batch_size", type=_positive, default=0, metavar="N", help="default: 32 on a CPU, 256 on a GPU")


def _add_fetch_flags(group: argparse._ArgumentGroup) -> None:
    default = FetchOptions()
    pixels = DecodeOptions().max_pixels
    group.add_argument("--max_pixels", type=_positive, default=pixels, help="of one picture (default: %(default)s)")
    for name, kind, text in (
        ("max_image_bytes", _positive, "of one picture (default: %(default)s)"),
        ("parallel_fetches", _positive, "fetches under way per worker (default: %(default)s)"),
        ("connections_per_host", _positive, "at once, per worker (default: %(default)s)"),
        ("connect_timeout_s", _seconds, "default: %(default)s"),
        ("read_timeout_s", _seconds, "default: %(default)s"),
        ("deadline_s", _seconds, "for one picture, retries included (default: %(default)s)"),
        ("attempts", _positive, "tries per picture when a server is busy or fails (default: %(default)s)"),
    ):
        group.add_argument(f"--{name}", type=kind, default=getattr(default, name), help=text)


def _positive(text: str) -> int:
    return _number(text, int, lambda value: value >= 1, "a whole number from 1")


def _natural(text: str) -> int:
    return _number(text, int, lambda value: value >= 0, "a whole number from 0")


def _ratio(text: str) -> float:
    return _number(text, float, lambda value: 0 <= value <= 1, "a number from 0 to 1")


def _seconds(text: str) -> float:
    return _number(text, float, lambda value: 0 < value < float("inf"), "seconds, more than 0")


def _number(text, kind, holds, expected):  # type: ignore[no-untyped-def]
    try:
        value = kind(text)
        if holds(value):
            return value
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"expected {expected}, found {text!r}")
