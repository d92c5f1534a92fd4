"""What a user asks for, a frozen dataclass per use case. Each default is written here once; flags read it from here."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from encoder.decode import DecodeOptions
from fetch.options import FetchOptions
from fetch.policy import TRUST
from fetch.trust import AUTO, Trust
from index_builder.build import IndexOptions
from pipelines.encoder_choices import EncoderChoices, StoreEncoderChoices
from store.ranges import MONEY, NATURAL, POSITIVE, RATIO, SECONDS, WAIT, check_choice, check_ranges
from store.snapshot import MAX_STALE_RUNS

Uri: TypeAlias = "str | os.PathLike[str]"
"""A local path, gs://, s3:// or what else the store or catalog in question takes."""

_FETCH = FetchOptions()


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrustChoices:
    """What a catalog may make this machine read; see docs/security.md.

    Attributes:
        trust: auto: a catalog on this machine may name any file and any host, one from elsewhere no file and no host
            with private addresses. none: the same for every catalog, but for what lies beside it.
        allow_local: Folders whose files it may name all the same.
        allow_hosts: Hosts that may have private addresses, and buckets such as gs://pictures.
    """

    trust: str = AUTO.trust
    allow_local: Sequence[str] = AUTO.allow_local
    allow_hosts: Sequence[str] = AUTO.allow_hosts

    def trusted(self) -> Trust:
        """The same for those who make policies of it.

        Raises:
            UserError: A choice makes no sense.
        """
        check_choice("trust", self.trust, TRUST)
        trusted = Trust(self.trust, tuple(self.allow_local), tuple(self.allow_hosts))
        trusted.policy("/")  # told now, not after a table was read
        return trusted


@dataclasses.dataclass(frozen=True, kw_only=True)
class FetchChoices:
    """What fetching pictures may cost; `fetch.options.FetchOptions` says what each number buys.

    Attributes:
        max_image_bytes: Of one encoded picture.
        parallel_fetches: Under way per worker.
        connections_per_host: At once, per worker.
        connect_timeout_s: Seconds to open a connection.
        read_timeout_s: Seconds without a byte.
        deadline_s: Seconds for one picture, retries included.
        attempts: Tries per picture when a server is busy or fails.
    """

    max_image_bytes: int = _FETCH.max_image_bytes
    parallel_fetches: int = _FETCH.parallel_fetches
    connections_per_host: int = _FETCH.connections_per_host
    connect_timeout_s: float = _FETCH.connect_timeout_s
    read_timeout_s: float = _FETCH.read_timeout_s
    deadline_s: float = _FETCH.deadline_s
    attempts: int = _FETCH.attempts

    def fetch_options(self) -> FetchOptions:
        """The limits of an ImageFetcher."""
        limits = {field.name: getattr(self, field.name) for field in dataclasses.fields(FetchChoices)}
        in_flight_bytes = max(_FETCH.max_in_flight_bytes, self.max_image_bytes)
        return FetchOptions(max_in_flight_bytes=in_flight_bytes, **limits)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmbedChoices(FetchChoices, TrustChoices):
    """How a catalog is fetched and embedded, but for the encoder.

    Attributes:
        max_reject_ratio: Commit nothing when more of the rows are rejected.
        full: Fetch and embed every picture, whatever earlier snapshots have.
        max_stale_runs: Runs in a row that a picture's last embedding is kept while its server is down.
        thumbnails: Store a small JPEG of every picture that is fetched.
        max_pixels: Of one decoded picture.
        min_ram: Memory hint for the workers that embed, such as 16GB.
        accelerator: Accelerator hint for the workers that embed.
        beam_flags: Of Apache Beam, such as --runner=FlinkRunner; without a runner all happens in this process.
    """

    max_reject_ratio: float = 0.1
    full: bool = False
    max_stale_runs: int = MAX_STALE_RUNS
    thumbnails: bool = False
    max_pixels: int = DecodeOptions().max_pixels
    min_ram: str | None = None
    accelerator: str | None = None
    beam_flags: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Refuses numbers and words that make no sense, by their names."""
        check_ranges(
            self,
            max_reject_ratio=RATIO,
            max_stale_runs=NATURAL,
            max_pixels=POSITIVE,
            max_image_bytes=POSITIVE,
            parallel_fetches=POSITIVE,
            connections_per_host=POSITIVE,
            connect_timeout_s=SECONDS,
            read_timeout_s=SECONDS,
            deadline_s=SECONDS,
            attempts=POSITIVE,
        )


@dataclasses.dataclass(frozen=True)
class EmbedRequest(EncoderChoices, EmbedChoices):
    """Embed a catalog into a new snapshot; what the last one has is not done again.

    Attributes:
        catalog: A folder or glob of pictures, or a .csv, .jsonl or .parquet table, here, in a bucket or behind http(s).
        store: Gets the snapshot.
    """

    catalog: Uri
    store: Uri

    def __post_init__(self) -> None:
        """Refuses numbers and words that make no sense, by their names."""
        EncoderChoices.__post_init__(self)
        EmbedChoices.__post_init__(self)


@dataclasses.dataclass(frozen=True)
class IndexRequest(IndexOptions, TrustChoices):
    """Build the index of a snapshot, measure it, publish it.

    Attributes:
        store: Holds the snapshot, gets the version.
        snapshot: Name of a snapshot; None for the newest.
        publish: Also over a version that a person rolled back to.
        beam: Build all shards but the first on Beam workers.
        beam_flags: Of Apache Beam, with `beam`.
    """

    store: Uri
    snapshot: str | None = dataclasses.field(default=None, kw_only=True)
    publish: bool = dataclasses.field(default=False, kw_only=True)
    beam: bool = dataclasses.field(default=False, kw_only=True)
    beam_flags: Sequence[str] = dataclasses.field(default=(), kw_only=True)


@dataclasses.dataclass(frozen=True)
class ReindexRequest(StoreEncoderChoices, EmbedChoices, IndexOptions):
    """Bring a store up to date with its catalog: embed what changed, build, publish if the gates pass, prune.

    Attributes:
        catalog: See EmbedRequest.
        store: Gets the snapshot, the version and the run's record.
        max_shrink: Largest share of the published version's pictures that may be lost.
        min_overlap: Least share of their 10 nearest neighbours that unchanged pictures must keep.
        publish: Also over a version that a person rolled back to.
        keep: Newest versions to keep of those at their target, and as many of those under it.
        wait_s: Seconds to wait for another run on this store to end; inf for as long as it takes.
        notify: URL that the run's record is posted to as JSON, however it ends.
        metrics_file: For a Prometheus node exporter; its name ends in .prom.
        cost_per_hour: Of the machine, to estimate what a run costs.
    """

    catalog: Uri
    store: Uri
    max_shrink: float = dataclasses.field(default=0.1, kw_only=True)
    min_overlap: float = dataclasses.field(default=0.5, kw_only=True)
    publish: bool = dataclasses.field(default=False, kw_only=True)
    keep: int = dataclasses.field(default=3, kw_only=True)
    wait_s: float = dataclasses.field(default=0.0, kw_only=True)
    notify: str | None = dataclasses.field(default=None, kw_only=True)
    metrics_file: str | None = dataclasses.field(default=None, kw_only=True)
    cost_per_hour: float | None = dataclasses.field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Refuses numbers and words that make no sense, by their names."""
        self.check()
        EmbedChoices.__post_init__(self)
        IndexOptions.__post_init__(self)
        check_ranges(self, max_shrink=RATIO, min_overlap=RATIO, keep=POSITIVE, wait_s=WAIT, cost_per_hour=MONEY)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchChoices:
    """How answers are chosen.

    Attributes:
        k: Answers to each query.
        where: Attribute values that every answer must have.
        group_by: "item" for the best picture of each item; None for pictures.
    """

    k: int = 10
    where: Mapping[str, str] = dataclasses.field(default_factory=dict)
    group_by: str | None = None

    def __post_init__(self) -> None:
        """Refuses what makes no sense."""
        check_ranges(self, k=POSITIVE)
        if self.group_by is not None:
            check_choice("group_by", self.group_by, ("item",))


@dataclasses.dataclass(frozen=True)
class EvaluateRequest(TrustChoices):
    """Measure how good the answers are, on pictures whose labels are known.

    Attributes:
        store: Where the index lies.
        label: Attribute that makes two pictures alike; item_id: views of one item.
        queries: Catalog of labelled pictures to search for; None for the index's own, each left out of its own answer.
        max_queries: Without `queries`: a random sample of so many where there are more.
        k: Answers to each query.
        version: Of the index; None for the published one.
    """

    store: Uri
    label: str = dataclasses.field(kw_only=True)
    queries: Uri | None = dataclasses.field(default=None, kw_only=True)
    max_queries: int = dataclasses.field(default=10_000, kw_only=True)
    k: int = dataclasses.field(default=SearchChoices.k, kw_only=True)
    version: str | None = dataclasses.field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Refuses numbers that make no sense."""
        check_ranges(self, max_queries=POSITIVE, k=POSITIVE)


@dataclasses.dataclass(frozen=True)
class PruneRequest:
    """Delete old versions, snapshots that none of them needs, leftovers of dead runs.

    Attributes:
        store: Where they lie.
        keep: Newest versions to keep of those at their target, and as many of those under it.
        leftovers_after_hours: What nobody finished is deleted when it was quiet for longer.
        dry_run: Delete nothing, say what would be.
    """

    store: Uri
    keep: int = dataclasses.field(kw_only=True)
    leftovers_after_hours: int = dataclasses.field(default=24, kw_only=True)
    dry_run: bool = dataclasses.field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        """Refuses numbers that make no sense."""
        check_ranges(self, keep=POSITIVE, leftovers_after_hours=NATURAL)
