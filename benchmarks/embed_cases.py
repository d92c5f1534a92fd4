"""One measurement in a process of its own: prints one line of JSON.

python -m benchmarks.embed_cases CASE key=value ...
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from encoder.decode import DecodeOptions
from pipelines.beam_flags import parse_beam_flags
from pipelines.cli.console import quiet_libraries
from pipelines.embed import embed_options, new_progress, started_now
from pipelines.embed_pipeline import run_pipeline
from pipelines.encoder_choices import EncoderChoices
from pipelines.prepare_encoder import prepare_encoder
from pipelines.requests import EmbedRequest
from store.location import Store
from transforms.catalog import find_catalog
from transforms.embeddings import EncoderSource
from transforms.snapshot import SnapshotRequest

WEIGHTS = "random"


def _peak_memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _rate_of(call: Callable[[], int], seconds: float) -> float:
    """Pictures per second of `call`, which does some and says how many, repeated for at least `seconds`."""
    call()
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        done += call()
    return done / (time.perf_counter() - start)


def bare(store: str, precision: str, seconds: float) -> dict[str, Any]:
    """The model alone on full batches already in memory."""
    source, _ = prepare_encoder(Store(store), EncoderChoices(weights=WEIGHTS, precision=precision))
    pixels = np.random.default_rng(0).integers(0, 256, (32, source.image_size, source.image_size, 3), np.uint8)
    spec = source.fixed_spec or source.choose(pixels)[0]
    encoder = source.load(spec)
    batch = pixels[: encoder.batch_size]

    def encode() -> int:
        encoder.encode(batch)
        return len(batch)

    return {"precision": spec.precision, "pictures_per_s": _rate_of(encode, seconds)}


def pipeline(store: str, catalog: str, precision: str = "auto") -> dict[str, Any]:
    """The whole pipeline with ResNet50: rate after the first tenth of the pictures, and peak memory."""
    source, _ = prepare_encoder(Store(store), EncoderChoices(weights=WEIGHTS, precision=precision))
    return _run(source, store, catalog)


def fake(store: str, catalog: str, hold_s: float, batch_size: int = 64) -> dict[str, Any]:
    """The whole pipeline with an encoder that only waits: `hold_s` for every batch."""
    from tests.support.fakes import FakeEncoderSource

    source = FakeEncoderSource(image_size=224, batch_size=batch_size, hold_s=hold_s, embedding_dim=2048)
    return _run(source, store, catalog)


def decode(catalog: str, seconds: float) -> dict[str, Any]:
    """Reading and decoding alone, on every core."""
    import csv
    import itertools
    import os
    from concurrent.futures import ThreadPoolExecutor

    from encoder.decode import decode_picture

    options = DecodeOptions()
    with open(catalog, encoding="utf-8") as table:
        paths = [row["image_uri"] for row in itertools.islice(csv.DictReader(table), 96)]

    def decode_one(path: str) -> None:
        decode_picture(Path(path).read_bytes(), options)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return {"pictures_per_s": _rate_of(lambda: len(list(pool.map(decode_one, paths))), seconds)}


def _run(source: EncoderSource, store: str, catalog: str) -> dict[str, Any]:
    snapshot, now = started_now()
    with tempfile.TemporaryDirectory() as scratch:
        progress_file, found = new_progress(scratch), find_catalog(catalog)
        options = embed_options(EmbedRequest(catalog, store), found, source, None, progress_file)
        request = SnapshotRequest(snapshot, catalog, now.isoformat(), 0.0)
        manifest = run_pipeline(found, source, Store(store), request, options, parse_beam_flags([]))
        if manifest.work["encoded"] != manifest.counts.catalog_rows:
            raise SystemExit(
                f"expected every row of {catalog} to be embedded, found {manifest.work['encoded']:,} of "
                f"{manifest.counts.catalog_rows:,}: each needs a picture that can be read and an image_uri of its own"
            )
        rate = steady_rate([record[0] for record in progress_file.records() if record[2]])
    return {
        "rows": manifest.counts.embedded,
        "pictures_per_s": rate,
        "peak_memory_mb": _peak_memory_mb(),
        "precision": manifest.encoder["precision"],
    }


def steady_rate(embedded_at_s: list[float]) -> float:
    """Pictures per second between the first tenth of the pictures and the last: start-up is apart."""
    skipped = len(embedded_at_s) // 10
    return (len(embedded_at_s) - 1 - skipped) / (embedded_at_s[-1] - embedded_at_s[skipped])


def stock(catalog: str, batch_size: str = "") -> dict[str, Any]:
    """Beam's own RunInference with a Keras model, PIL and WriteToParquet: what one would write without Shelfmark.

    Without a batch size Beam finds one by trial, as it does by default. The rate is taken as the pipeline's is: after
    the first tenth of the pictures.
    """
    from benchmarks.stock_pipeline import embed_with_stock_beam

    return {"pictures_per_s": steady_rate(embed_with_stock_beam(catalog, int(batch_size or 0)))}


CASES: dict[str, Callable[..., dict[str, Any]]] = {
    case.__name__: case for case in (bare, pipeline, fake, decode, stock)
}


def main(arguments: list[str]) -> None:
    """Runs one case with its key=value arguments."""
    quiet_libraries(verbose=False)
    case, *pairs = arguments
    fields = dict(pair.split("=", 1) for pair in pairs)
    numbers = {"seconds", "hold_s"}
    typed = {name: float(value) if name in numbers else value for name, value in fields.items()}
    print(json.dumps(CASES[case](**typed)))


if __name__ == "__main__":
    main(sys.argv[1:])
