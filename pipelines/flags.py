"""Shelfmark's own flags."""

from __future__ import annotations

import argparse

from encoder.decode import RESIZE_MODES, DecodeOptions
from encoder.source import PRECISIONS
from pipelines.demo import add_demo
from pipelines.embed import EncoderRequest
from pipelines.evaluate import add_evaluate
from pipelines.flag_types import (
    Commands,
    Parser,
    add_doctor,
    add_output_flags,
    natural,
    new_parser,
    positive,
    ratio,
    seconds,
)
from pipelines.index import add_index
from pipelines.search import add_search
from pipelines.versions import add_prune, add_rollback, add_versions
from transforms.fetch import FetchOptions

DEFAULT_MAX_REJECT_RATIO = 0.1


def build_parser() -> Parser:
    """The whole command line."""
    parser, commands = new_parser()
    add_demo(commands)
    _add_sample_catalog(commands)
    _add_embed(commands)
    for add in (add_index, add_search, add_evaluate, add_versions, add_rollback, add_prune):
        add(commands)
    add_doctor(commands)
    return parser


def _add_command(commands: Commands, name: str, summary: str, epilog: str = "") -> Parser:
    return commands.add_parser(name, help=summary, description=summary, epilog=epilog, allow_abbrev=False)


def _add_sample_catalog(commands: Commands) -> None:
    parser = _add_command(commands, "sample-catalog", "draw a catalog of made-up products")
    parser.add_argument("directory", metavar="DIR", help="where the pictures and catalog.csv go")
    parser.add_argument("--items", type=positive, default=100, help="products to draw (default: %(default)s)")
    parser.add_argument("--views", type=positive, default=3, help="pictures of each (default: %(default)s)")
    parser.add_argument("--seed", type=natural, default=0, help="same seed, same bytes (default: %(default)s)")
    add_output_flags(parser)


def _add_embed(commands: Commands) -> None:
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
        type=ratio,
        default=DEFAULT_MAX_REJECT_RATIO,
        help="commit nothing, exit 3, when more of the rows are rejected (default: %(default)s)",
    )
    _add_encoder_flags(parser.add_argument_group("encoder"))
    _add_fetch_flags(parser.add_argument_group("pictures"))
    workers = parser.add_argument_group("workers that embed")
    workers.add_argument("--min_ram", metavar="SIZE", help="memory hint for the embedding step alone, such as 16GB")
    workers.add_argument("--accelerator", metavar="HINT", help="accelerator hint for the embedding step alone")
    add_output_flags(parser)


def _add_encoder_flags(group: argparse._ArgumentGroup) -> None:
    default = EncoderRequest()
    group.add_argument(
        "--backbone", default=default.backbone, help="any keras.applications model (default: %(default)s)"
    )
    group.add_argument(
        "--weights",
        default=default.weights,
        metavar="WEIGHTS",
        help="imagenet, a .weights.h5, .h5 or .keras file, random or random:SEED (default: %(default)s)",
    )
    group.add_argument("--precision", choices=PRECISIONS, default=default.precision, help="default: %(default)s")
    group.add_argument("--image_size", type=positive, default=0, metavar="PX", help="default: the backbone's own")
    group.add_argument(
        "--resize",
        choices=RESIZE_MODES,
        default=default.resize,
        help="pad: letterbox on white; crop: centre, as ImageNet evaluation; stretch (default: %(default)s)",
    )
    group.add_argument("--batch_size", type=positive, default=0, metavar="N", help="default: 32 on a CPU, 256 on a GPU")


def _add_fetch_flags(group: argparse._ArgumentGroup) -> None:
    default = FetchOptions()
    pixels = DecodeOptions().max_pixels
    group.add_argument("--max_pixels", type=positive, default=pixels, help="of one picture (default: %(default)s)")
    for name, kind, text in (
        ("max_image_bytes", positive, "of one picture (default: %(default)s)"),
        ("parallel_fetches", positive, "fetches under way per worker (default: %(default)s)"),
        ("connections_per_host", positive, "at once, per worker (default: %(default)s)"),
        ("connect_timeout_s", seconds, "default: %(default)s"),
        ("read_timeout_s", seconds, "default: %(default)s"),
        ("deadline_s", seconds, "for one picture, retries included (default: %(default)s)"),
        ("attempts", positive, "tries per picture when a server is busy or fails (default: %(default)s)"),
    ):
        group.add_argument(f"--{name}", type=kind, default=getattr(default, name), help=text)
