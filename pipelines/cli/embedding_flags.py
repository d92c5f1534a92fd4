"""What is embedded, with what and how: flags of `embed` and `reindex`, their defaults those of the request."""

from __future__ import annotations

import argparse

from encoder.decode import RESIZE_MODES
from encoder.source import PRECISIONS
from pipelines.cli.flag_types import Parser, natural, positive, ratio, seconds
from pipelines.cli.trust_flags import add_trust_flags
from pipelines.encoder_choices import EncoderChoices
from pipelines.requests import EmbedRequest, ReindexRequest


def add_embedding_flags(parser: Parser, request: type[EmbedRequest] | type[ReindexRequest]) -> None:
    """Everything that says what is embedded, with what and how.

    Args:
        parser: Gets the flags.
        request: Has the defaults.
    """
    parser.add_argument("--catalog", required=True, metavar="URI", help="folder, glob, .csv, .jsonl or .parquet")
    parser.add_argument("--store", required=True, metavar="URI", help="folder, gs:// or s3:// where snapshots lie")
    parser.add_argument(
        "--max_reject_ratio",
        type=ratio,
        default=EmbedRequest.max_reject_ratio,
        help="commit nothing, exit 3, when more of the rows are rejected (default: %(default)s)",
    )
    past = parser.add_argument_group("what is known already")
    past.add_argument(
        "--full", action="store_true", help="fetch and embed every picture, whatever earlier snapshots have"
    )
    past.add_argument(
        "--max_stale_runs",
        type=natural,
        default=EmbedRequest.max_stale_runs,
        metavar="N",
        help="runs in a row that a picture's last embedding is kept while its server is down (default: %(default)s)",
    )
    of_store = request.backbone is None
    title = "encoder; what is not given is as the store's embeddings were made" if of_store else "encoder"
    _add_encoder_flags(parser.add_argument_group(title), request)
    _add_fetch_flags(parser.add_argument_group("pictures"))
    add_trust_flags(parser)
    workers = parser.add_argument_group("workers that embed")
    workers.add_argument("--min_ram", metavar="SIZE", help="memory hint for the embedding step alone, such as 16GB")
    workers.add_argument("--accelerator", metavar="HINT", help="accelerator hint for the embedding step alone")


def _add_encoder_flags(group: argparse._ArgumentGroup, default: type[EmbedRequest] | type[ReindexRequest]) -> None:
    new = EncoderChoices  # what a store without embeddings gets
    group.add_argument(
        "--backbone", default=default.backbone, help=f"any keras.applications model (default: {new.backbone})"
    )
    group.add_argument(
        "--weights",
        default=default.weights,
        metavar="WEIGHTS",
        help="imagenet, a .weights.h5, .h5 or .keras file, random or random:SEED (default: " + new.weights + ")",
    )
    group.add_argument("--precision", choices=PRECISIONS, default=default.precision, help=f"default: {new.precision}")
    group.add_argument(
        "--image_size", type=positive, default=default.image_size, metavar="PX", help="default: the backbone's own"
    )
    group.add_argument(
        "--resize",
        choices=RESIZE_MODES,
        default=default.resize,
        help="pad: letterbox on white; crop: centre, as ImageNet evaluation; stretch (default: " + new.resize + ")",
    )
    group.add_argument(
        "--batch_size",
        type=positive,
        default=default.batch_size,
        metavar="N",
        help="default: 32 on a CPU, 256 on a GPU",
    )


def _add_fetch_flags(group: argparse._ArgumentGroup) -> None:
    default = EmbedRequest
    group.add_argument(
        "--thumbnails",
        action="store_true",
        help="store a small JPEG of every picture that is fetched: serve, search and evaluate then fetch none",
    )
    group.add_argument(
        "--max_pixels", type=positive, default=default.max_pixels, help="of one picture (default: %(default)s)"
    )
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
