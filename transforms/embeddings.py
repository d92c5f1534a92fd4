"""EmbedShards: shards of catalog rows become Parquet files of embeddings and of rejects."""

from __future__ import annotations

import dataclasses
import functools
import heapq
import logging
from collections.abc import Iterable, Iterator
from typing import Protocol

import apache_beam as beam
import numpy as np
import numpy.typing as npt
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from encoder.decode import DecodeOptions, decode_picture
from encoder.model import Encoder
from encoder.spec import EncoderSpec
from store.location import Store
from store.rejects import Reason, Rejected
from transforms.fetch import FetchOptions, ImageFetcher, resolve_uri
from transforms.line import EmbeddingLine, LineLimits, Outcome, Refused
from transforms.progress import ProgressFile
from transforms.rows import CatalogRow
from transforms.shard_files import ShardFiles, ShardResult

PROBE_PICTURES = 32
"""Pictures on which a low precision is compared with float32 before it is trusted."""

_LOG = logging.getLogger("shelfmark")


class EncoderSource(Protocol):
    """Makes an encoder where it is needed; travels to workers, so it holds names and paths, never a model."""

    @property
    def image_size(self) -> int:
        """Side of the square pictures the encoder takes, in pixels."""

    @property
    def fixed_spec(self) -> EncoderSpec | None:
        """The spec, where the precision was given; None where pictures decide."""

    def choose(self, pixels: npt.NDArray[np.uint8]) -> tuple[EncoderSpec, str]:
        """The spec for this worker's hardware after a check on uint8[n, S, S, 3] pictures, and a warning or ""."""

    def load(self, spec: EncoderSpec) -> Encoder:
        """The model, one per process."""


@dataclasses.dataclass(frozen=True, slots=True)
class EmbedOptions:
    """How shards are embedded.

    Attributes:
        base: Where relative image URIs start from.
        decode: Size, resize mode and pixel limit.
        fetch: Limits and manners of fetching.
        progress: Where progress is recorded.
        resource_hints: Beam's hints (`min_ram`, `accelerator`) for the workers that embed, and for no other step.
    """

    base: str
    decode: DecodeOptions
    fetch: FetchOptions
    progress: ProgressFile = ProgressFile("")
    resource_hints: tuple[tuple[str, str], ...] = ()


class EmbedShards(beam.PTransform):
    """Fetches, decodes and embeds every row of every shard, and writes the shard's files.

    The four happen in one DoFn: encoded bytes, pixels and embeddings never cross a stage on any runner, and a batch is
    as full as the catalog allows, however small the runner's bundles are.

    Input: PCollection[tuple[int, Iterable[CatalogRow]]], and the chosen EncoderSpec as a singleton side input.
    Output: PCollection[ShardResult].
    """

    def __init__(
        self, source: EncoderSource, spec: beam.pvalue.AsSingleton, store: Store, folder: str, options: EmbedOptions
    ) -> None:
        super().__init__()
        self._source = source
        self._spec = spec
        self._store = store
        self._folder = folder
        self._options = options

    def expand(self, shards: beam.PCollection[tuple[int, Iterable[CatalogRow]]]) -> beam.PCollection[ShardResult]:
        """One ParDo."""
        dofn = _EmbedShards(self._source, self._store, self._folder, self._options)
        embed = beam.ParDo(dofn, spec=self._spec).with_output_types(ShardResult)
        return shards | "EmbedShard" >> embed.with_resource_hints(**dict(self._options.resource_hints))


class _EmbedShards(beam.DoFn):
    """Keeps the line full across shards: a shard's result may come out while a later one goes in."""

    def __init__(self, source: EncoderSource, store: Store, folder: str, options: EmbedOptions) -> None:
        self._source = source
        self._store = store
        self._folder = folder
        self._options = options
        self._fetcher: ImageFetcher | None = None
        self._line: EmbeddingLine | None = None
        self._files_of: dict[str, ShardFiles] = {}

    def start_bundle(self) -> None:
        # A bundle that failed may have left its rows on the line: they belong to nobody now.
        self._drop_unfinished()

    def process(self, shard: tuple[int, Iterable[CatalogRow]], spec: EncoderSpec) -> Iterator[ShardResult]:
        number, rows = shard
        line = self._line or self._start_line(spec)
        files = ShardFiles(self._store, self._folder, number, spec)
        first = _first_positions(rows)
        for row in rows:
            files.expect_row()
            refused = _refuse_row(row, first)
            if refused is not None:
                yield from self._collect(refused, files)
                continue
            self._files_of[row.image_id] = files
            for outcome in line.push(row):
                yield from self._collect(outcome, self._files_of.pop(outcome.row.image_id))
        files.expect_no_more()
        if files.finished:
            yield files.close()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        if self._line is None:
            return
        for outcome in self._line.flush():
            for result in self._collect(outcome, self._files_of.pop(outcome.row.image_id)):
                yield GlobalWindows.windowed_value(result)

    def teardown(self) -> None:
        self._drop_unfinished()
        self._close_line()
        if self._fetcher is not None:
            self._fetcher.close()

    def _start_line(self, spec: EncoderSpec) -> EmbeddingLine:
        options = self._options
        self._fetcher = self._fetcher or ImageFetcher(options.fetch)
        limits = LineLimits(
            parallel_fetches=options.fetch.parallel_fetches, max_waiting_bytes=options.fetch.max_in_flight_bytes
        )
        fetch = functools.partial(_fetch, self._fetcher, options.base)
        decode = functools.partial(decode_picture, options=options.decode)
        self._line = EmbeddingLine(fetch, decode, self._source.load(spec), limits)
        return self._line

    def _drop_unfinished(self) -> None:
        if self._files_of:
            for files in set(self._files_of.values()):
                files.abandon()
            self._files_of = {}
            self._close_line()

    def _close_line(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None

    def _collect(self, outcome: Outcome, files: ShardFiles) -> Iterator[ShardResult]:
        files.add(outcome)
        refused = isinstance(outcome, Refused)
        self._options.progress.record(embedded=int(not refused), rejected=int(refused))
        if files.finished:
            yield files.close()


def _fetch(fetcher: ImageFetcher, base: str, uri: str) -> bytes:
    return fetcher.fetch(resolve_uri(uri, base))


def _first_positions(rows: Iterable[CatalogRow]) -> dict[str, str]:
    """For every image_id of a shard, the position of the row that keeps it."""
    first: dict[str, str] = {}
    for row in rows:
        if not row.fault:
            first[row.image_id] = min(first.get(row.image_id, row.position), row.position)
    return first


def _refuse_row(row: CatalogRow, first: dict[str, str]) -> Refused | None:
    if row.fault:
        return Refused(row, Reason.MISSING_FIELD, row.fault)
    if first[row.image_id] != row.position:
        detail = f"{row.position}: image_id {row.image_id} already stands at {first[row.image_id]}"
        return Refused(row, Reason.DUPLICATE_IMAGE_ID, detail)
    return None


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
        fetcher = ImageFetcher(self._options.fetch)
        pictures = []
        for uri in image_uris:
            try:
                data = _fetch(fetcher, self._options.base, uri)
                pictures.append(decode_picture(data, self._options.decode).pixels)
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
