"""EmbedShards: shards of catalog rows become Parquet files of embeddings and of rejects."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterable, Iterator
from typing import Protocol

import apache_beam as beam
import numpy as np
import numpy.typing as npt
from apache_beam.transforms.window import GlobalWindows

from encoder.decode import DecodeOptions, decode_picture
from encoder.model import Encoder
from encoder.spec import EncoderSpec
from encoder.thumbnails import stored_thumbnail
from fetch.fetcher import FetchOptions, ImageFetcher, resolve_uri
from fetch.policy import FetchPolicy
from fetch.source_version import Fetched
from store.location import Store
from store.rejects import Rejected
from store.snapshot import MAX_STALE_RUNS
from store.thumbnails import has_thumbnail, write_thumbnail
from transforms import beam_metrics
from transforms.embedding_line import EmbeddingLine, LineLimits
from transforms.known_contents import KnownContents
from transforms.picture_outcomes import PictureJob, PictureOutcome
from transforms.previous import PreviousRow, PreviousSnapshot
from transforms.progress import ProgressFile
from transforms.row_outcomes import EmbeddedRow, RejectedRow, RowOutcome, end_refused, end_row
from transforms.run_counts import RunCounts
from transforms.shard_files import ShardFiles
from transforms.tasks import Reuse, Task


class EncoderSource(Protocol):
    """Makes an encoder where it is needed; travels to workers, so it holds names and paths, never a model."""

    @property
    def image_size(self) -> int:
        """Side of the square pictures the encoder takes, in pixels."""

    @property
    def resize(self) -> str:
        """How pictures become squares: one of encoder.decode.RESIZE_MODES."""

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
        policy: What the catalog may name.
        progress: Where progress is recorded.
        resource_hints: Beam's hints (`min_ram`, `accelerator`) for the workers that embed, and for no other step.
        previous: The snapshot whose embeddings may be used again; None to make every one anew.
        max_stale_runs: For how many runs in a row an embedding is kept whose picture cannot be had for a passing cause.
        thumbnails: Whether a small JPEG of every fetched picture is stored: some 15 kB and one more, faster decoding
            each; whoever shows the picture later need not fetch it.
    """

    base: str
    decode: DecodeOptions
    fetch: FetchOptions
    policy: FetchPolicy
    progress: ProgressFile = ProgressFile("")
    resource_hints: tuple[tuple[str, str], ...] = ()
    previous: PreviousSnapshot | None = None
    max_stale_runs: int = MAX_STALE_RUNS
    thumbnails: bool = False


class EmbedShards(beam.PTransform):
    """Fetches, decodes and embeds the pictures of every shard, and writes the shard's files.

    The four happen in one DoFn: encoded bytes, pixels and embeddings never cross a stage on any runner, and a batch is
    as full as the catalog allows, however small the runner's bundles are.

    Input: PCollection[tuple[int, Iterable[Task]]], and the chosen EncoderSpec as a singleton side input.
    Output: tagged: TALLIES: PCollection[RunCounts]; REUSED: PCollection[Reuse], rows whose pictures turned out
    to have an embedding already.
    """

    TALLIES, REUSED = "tallies", "reused"

    def __init__(
        self, source: EncoderSource, spec: beam.pvalue.AsSingleton, store: Store, folder: str, options: EmbedOptions
    ) -> None:
        super().__init__()
        self._source = source
        self._spec = spec
        self._store = store
        self._folder = folder
        self._options = options

    def expand(self, shards: beam.PCollection[tuple[int, Iterable[Task]]]) -> beam.pvalue.DoOutputsTuple:
        """One DoFn that fetches, decodes, embeds and writes, with two tagged outputs."""
        dofn = _EmbedShards(self._source, self._store, self._folder, self._options)
        embed = beam.ParDo(dofn, spec=self._spec).with_outputs(self.TALLIES, self.REUSED)
        outputs = shards | "EmbedShard" >> embed.with_resource_hints(**dict(self._options.resource_hints))
        outputs[self.TALLIES].element_type = RunCounts
        outputs[self.REUSED].element_type = Reuse
        return outputs


@dataclasses.dataclass(slots=True)
class _ShardInProgress:
    """A shard under way: its files, and the tasks whose picture has not come off the line."""

    files: ShardFiles
    waiting: int = 0
    complete: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class _Picture:
    """The tasks that share a picture, and the previous row that its source was asked about."""

    shard: _ShardInProgress
    tasks: list[Task]
    asked: PreviousRow | None


class _EmbedShards(beam.DoFn):
    """Keeps the line full across shards: a shard's result may come out while a later one goes in."""

    def __init__(self, source: EncoderSource, store: Store, folder: str, options: EmbedOptions) -> None:
        self._source = source
        self._store = store
        self._folder = folder
        self._options = options
        self._fetcher: ImageFetcher | None = None
        self._known: KnownContents | None = None
        self._line: EmbeddingLine | None = None
        self._pictures: dict[PictureJob, _Picture] = {}

    def start_bundle(self) -> None:
        # A bundle that failed may have left its pictures on the line: they belong to nobody now.
        self._drop_unfinished()

    def process(self, shard: tuple[int, Iterable[Task]], spec: EncoderSpec) -> Iterator[beam.pvalue.TaggedOutput]:
        number, tasks = shard
        line = self._line or self._start_line(spec)
        under_way = _ShardInProgress(ShardFiles(self._store, self._folder, number, spec))
        by_uri: dict[str, list[Task]] = {}
        for task in tasks:
            if task.reason:
                self._write(end_refused(task), task, under_way)
            else:
                by_uri.setdefault(task.row.image_uri, []).append(task)
        for uri, sharing in by_uri.items():
            asked = next((task for task in sharing if task.known_version), None)
            job = PictureJob(uri, asked.known_version if asked else "")
            self._pictures[job] = _Picture(under_way, sharing, asked.previous if asked else None)
            under_way.waiting += 1
            for outcome in line.push(job):
                yield from self._collect(outcome)
        beam_metrics.record(line.measured.take())
        under_way.complete = True
        yield from _close_if_finished(under_way)

    def finish_bundle(self) -> Iterator[beam.pvalue.TaggedOutput]:
        if self._line is None:
            return
        for outcome in self._line.flush():
            for result in self._collect(outcome):
                yield beam.pvalue.TaggedOutput(result.tag, GlobalWindows.windowed_value(result.value))
        beam_metrics.record(self._line.measured.take())

    def teardown(self) -> None:
        self._drop_unfinished()
        self._close_line()
        if self._fetcher is not None:
            self._fetcher.close()

    def _start_line(self, spec: EncoderSpec) -> EmbeddingLine:
        options = self._options
        self._fetcher = self._fetcher or ImageFetcher(options.fetch, options.policy)
        self._known = self._known or KnownContents(options.previous)
        limits = LineLimits(
            parallel_fetches=options.fetch.parallel_fetches, max_waiting_bytes=options.fetch.max_in_flight_bytes
        )
        fetch = functools.partial(_fetch_newer, self._fetcher, options.base)
        decode = functools.partial(decode_picture, options=options.decode)
        load = functools.partial(self._source.load, spec)
        keep = functools.partial(_store_thumbnail, self._store, options.decode.max_pixels)
        kept = {"keep": keep} if options.thumbnails else {}
        self._line = EmbeddingLine(fetch, decode, load, limits, self._known.find, **kept)
        return self._line

    def _drop_unfinished(self) -> None:
        if self._pictures:
            for files in {id(picture.shard): picture.shard.files for picture in self._pictures.values()}.values():
                files.abandon()
            self._pictures = {}
            self._close_line()

    def _close_line(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None

    def _collect(self, outcome: PictureOutcome) -> Iterator[beam.pvalue.TaggedOutput]:
        picture = self._pictures.pop(outcome.job)
        picture.shard.files.count_picture(outcome)
        for task in picture.tasks:
            ending = end_row(task, outcome, picture.asked, self._options.max_stale_runs)
            self._write(ending, task, picture.shard, outcome)
            if isinstance(ending, Reuse):
                yield beam.pvalue.TaggedOutput(EmbedShards.REUSED, ending)
        picture.shard.waiting -= 1
        yield from _close_if_finished(picture.shard)

    def _write(
        self, ending: RowOutcome, task: Task, shard: _ShardInProgress, outcome: PictureOutcome | None = None
    ) -> None:
        shard.files.add(ending, task, outcome)
        beam_metrics.count_outcome(ending)
        self._options.progress.record(
            embedded=int(isinstance(ending, EmbeddedRow)),
            reused=int(isinstance(ending, Reuse)),
            rejected=int(isinstance(ending, RejectedRow)),
        )


def _close_if_finished(shard: _ShardInProgress) -> Iterator[beam.pvalue.TaggedOutput]:
    if shard.complete and not shard.waiting:
        yield beam.pvalue.TaggedOutput(EmbedShards.TALLIES, shard.files.close())


def _store_thumbnail(store: Store, max_pixels: int, content_sha256: str, data: bytes) -> None:
    if has_thumbnail(store, content_sha256):
        return
    with contextlib.suppress(Rejected):
        write_thumbnail(store, content_sha256, stored_thumbnail(data, max_pixels))


def _fetch_newer(fetcher: ImageFetcher, base: str, uri: str, known: str) -> Fetched | None:
    return fetcher.fetch_newer(resolve_uri(uri, base), known)
