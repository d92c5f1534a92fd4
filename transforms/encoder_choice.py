"""ChooseEncoder: the encoder of a whole run, its precision settled on the catalog's first pictures."""

from __future__ import annotations

import functools
import heapq
import logging
import time
from collections.abc import Iterable, Iterator

import apache_beam as beam
import numpy as np
import numpy.typing as npt

from encoder.decode import decode_picture
from encoder.spec import EncoderSpec
from fetch.fetcher import ImageFetcher, resolve_uri
from store.rejects import Reason, Rejected
from transforms.brake import Brake
from transforms.embeddings import EmbedOptions, EncoderSource
from transforms.rows import CatalogRow

PROBE_PICTURES = 32
"""Pictures on which a low precision is compared with float32 before it is trusted."""

_LOG = logging.getLogger("shelfmark")


class ChooseEncoder(beam.PTransform):
    """Settles the precision once for the whole run, on the catalog's first pictures and on a worker that embeds.

    Were every worker to decide for itself, workers of two kinds would mix embeddings of two precisions.

    Input: PCollection[CatalogRow].
    Output: PCollection[EncoderSpec] with one element.
    """

    def __init__(self, source: EncoderSource, options: EmbedOptions) -> None:
        super().__init__()
        self._source = source
        self._options = options

    def expand(self, rows: beam.PCollection[CatalogRow]) -> beam.PCollection[EncoderSpec]:
        """The given precision, or a probe."""
        spec = self._source.fixed_spec
        if spec is not None:
            return rows.pipeline | "GivenPrecision" >> beam.Create([spec])
        probe = beam.ParDo(_ChooseEncoder(self._source, self._options)).with_output_types(EncoderSpec)
        return (
            rows
            | "FirstRows" >> beam.CombineGlobally(_FirstRows(PROBE_PICTURES))
            | "ChoosePrecision" >> probe.with_resource_hints(**dict(self._options.resource_hints))
        )


class _FirstRows(beam.CombineFn):
    """The n good rows that stand first in the catalog."""

    def __init__(self, count: int) -> None:
        self._count = count

    def create_accumulator(self) -> list[tuple[str, str]]:
        return []

    def add_input(self, accumulator: list[tuple[str, str]], row: CatalogRow) -> list[tuple[str, str]]:
        if row.fault or (len(accumulator) >= self._count and row.position >= accumulator[-1][0]):
            return accumulator
        return heapq.nsmallest(self._count, [*accumulator, (row.position, row.image_uri)])

    def merge_accumulators(self, accumulators: Iterable[list[tuple[str, str]]]) -> list[tuple[str, str]]:
        return heapq.nsmallest(self._count, (row for rows in accumulators for row in rows))

    def extract_output(self, accumulator: list[tuple[str, str]]) -> list[str]:
        return [uri for _, uri in accumulator]


class _ChooseEncoder(beam.DoFn):
    def __init__(self, source: EncoderSource, options: EmbedOptions) -> None:
        self._source = source
        self._options = options

    def process(self, image_uris: list[str]) -> Iterator[EncoderSpec]:
        fetcher = ImageFetcher(self._options.fetch, self._options.policy)
        brake = Brake("pictures", 1, Reason.FETCH_ERROR, time.sleep)

        def read(uri: str) -> npt.NDArray[np.uint8]:
            data = fetcher.fetch(resolve_uri(uri, self._options.base))
            return decode_picture(data, self._options.decode).pixels

        pictures = []
        for uri in image_uris:
            try:
                pictures.append(brake.run(functools.partial(read, uri)))
            except Rejected:
                continue  # the row itself is rejected, and counted, where it is embedded
        fetcher.close()
        side = self._source.image_size
        spec, warning = self._source.choose(
            np.stack(pictures) if pictures else np.empty((0, side, side, 3), dtype=np.uint8)
        )
        if warning:
            _LOG.warning(warning)
        yield spec
