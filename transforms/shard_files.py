"""The two files of a shard under way, its embeddings and its rejects, and the result that is left of them."""

from __future__ import annotations

import collections
import dataclasses
import uuid

from encoder.spec import EncoderSpec
from store.location import Store
from store.parts import PartFile, PartWriter
from store.rejects import Reason
from store.schema import REJECTED_SCHEMA, embedding_schema
from transforms.line import Embedded, Outcome


@dataclasses.dataclass(frozen=True, slots=True)
class ShardResult:
    """What a finished shard left behind.

    Attributes:
        shard: Its number.
        rows: Catalog rows in it.
        embedded: Of these, rows with an embedding.
        rejected_by_reason: Reason to number of rows.
        files: Its files, none of them empty.
        encoder: The encoder's manifest entry; the same for every shard of a snapshot.
    """

    shard: int
    rows: int
    embedded: int
    rejected_by_reason: dict[str, int]
    files: tuple[PartFile, ...]
    encoder: EncoderSpec


class ShardFiles:
    """Collects the outcomes of one shard.

    Every attempt writes under names of its own, so a shard that is done again (a worker died) never meets the files of
    its first attempt; only the attempt whose result reaches the manifest is ever read.
    """

    def __init__(self, store: Store, folder: str, shard: int, spec: EncoderSpec) -> None:
        attempt = uuid.uuid4().hex[:12]
        schema = embedding_schema(spec.embedding_dim, spec.fingerprint)
        self._shard = shard
        self._spec = spec
        self._embedded = PartWriter(store, folder, f"part-{shard:05d}-{attempt}.parquet", schema)
        self._rejected = PartWriter(store, folder, f"rejected-{shard:05d}-{attempt}.parquet", REJECTED_SCHEMA)
        self._rejected_by_reason: collections.Counter[str] = collections.Counter()
        self._rows_embedded = 0
        self._rows_waiting = 0
        self._complete = False

    def expect_row(self) -> None:
        """One more row of this shard is on its way."""
        self._rows_waiting += 1

    def expect_no_more(self) -> None:
        """Every row of the shard has been announced."""
        self._complete = True

    @property
    def finished(self) -> bool:
        """True once every announced row has its outcome and no more will come."""
        return self._complete and not self._rows_waiting

    def add(self, outcome: Outcome) -> None:
        """Writes one outcome to the file it belongs to.

        Raises:
            StoreError: The store cannot be written.
        """
        self._rows_waiting -= 1
        row = outcome.row
        identity = {"image_id": row.image_id, "item_id": row.item_id, "image_uri": row.image_uri}
        if isinstance(outcome, Embedded):
            self._rows_embedded += 1
            self._embedded.add(
                {
                    **identity,
                    "source_version": row.source_version,
                    "content_sha256": outcome.content_sha256,
                    "width": outcome.width,
                    "height": outcome.height,
                    "attributes": list(row.attributes.items()),
                    "embedding_norm": outcome.norm,
                    "embedding": outcome.embedding,
                }
            )
            return
        self._reject(identity, outcome.reason, outcome.detail)

    def _reject(self, identity: dict[str, str], reason: Reason, detail: str) -> None:
        self._rejected_by_reason[reason.value] += 1
        # A file name or a server's words may hold what no UTF-8 file can.
        text = detail.encode("utf-8", "replace").decode()
        self._rejected.add({**identity, "stage": reason.stage.value, "reason": reason.value, "detail": text})

    def close(self) -> ShardResult:
        """Finishes both files.

        Raises:
            StoreError: The store cannot be written.
        """
        files = tuple(file for file in (self._embedded.close(), self._rejected.close()) if file is not None)
        rejected = dict(self._rejected_by_reason)
        rows = self._rows_embedded + sum(rejected.values())
        return ShardResult(self._shard, rows, self._rows_embedded, rejected, files, self._spec)

    def abandon(self) -> None:
        """Lets go of files that will never be listed."""
        self._embedded.abandon()
        self._rejected.abandon()
