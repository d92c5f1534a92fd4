"""The two files of a shard under way, its embeddings and its rejects, and the tally that is left of them."""

from __future__ import annotations

import collections
import uuid
from typing import Any

from encoder.spec import EncoderSpec
from store.location import Store
from store.parts import PartWriter
from store.rejects import Stage
from store.schema import REJECTED_SCHEMA, embedding_schema
from store.snapshot import PART, REJECTED
from transforms.compare import differs
from transforms.picture_outcomes import EmbeddedPicture, PictureOutcome, RefusedPicture, SameContent
from transforms.row_outcomes import EmbeddedRow, RejectedRow, RowOutcome
from transforms.rows import CatalogRow
from transforms.run_counts import RunCounts, reject_digest
from transforms.tasks import Reuse, Task


def identity(row: CatalogRow) -> dict[str, str]:
    """The columns that every file of a snapshot begins with."""
    return {"image_id": row.image_id, "item_id": row.item_id, "image_uri": row.image_uri}


def cause(stage: Stage, reason: str, detail: str) -> dict[str, str]:
    """The columns that say why a picture could not be had."""
    # A file name or a server's words may hold what no UTF-8 file can.
    text = detail.encode("utf-8", "replace").decode()
    return {"stage": stage.value, "reason": reason, "detail": text}


class ShardFiles:
    """Collects the ends of one shard's rows.

    Every attempt writes under names of its own, so a shard that is done again (a worker died) never meets the files of
    its first attempt; only the attempt whose tally reaches the manifest is ever read.
    """

    def __init__(self, store: Store, folder: str, shard: int, spec: EncoderSpec) -> None:
        name = f"{shard:05d}-{uuid.uuid4().hex[:12]}.parquet"
        schema = embedding_schema(spec.embedding_dim, spec.fingerprint)
        self._spec = spec
        self._embedded = PartWriter(store, folder, PART + name, schema)
        self._rejected = PartWriter(store, folder, REJECTED + name, REJECTED_SCHEMA)
        self._counts: collections.Counter[str] = collections.Counter()
        self._work: collections.Counter[str] = collections.Counter()
        self._rejected_by_reason: collections.Counter[str] = collections.Counter()
        self._rejects_digest = 0

    def count_picture(self, outcome: PictureOutcome) -> None:
        """Counts what a picture cost, however many rows share it."""
        at_source = isinstance(outcome, RefusedPicture) and outcome.reason.stage in (Stage.CATALOG, Stage.FETCH)
        read = isinstance(outcome, EmbeddedPicture | SameContent | RefusedPicture) and not at_source
        modelled = isinstance(outcome, EmbeddedPicture) or (
            isinstance(outcome, RefusedPicture) and outcome.reason.stage is Stage.ENCODE
        )
        self._work.update(fetched=int(read), encoded=int(modelled))

    def add(self, ending: RowOutcome, task: Task, outcome: PictureOutcome | None = None) -> None:
        """Counts how a row ended and writes it to the file it belongs to; a reused row's is written elsewhere.

        Args:
            ending: Of the row.
            task: The row and what is known of it.
            outcome: Of its picture; None for a row that was refused before.

        Raises:
            StoreError: The store cannot be written.
        """
        match ending:
            case EmbeddedRow():
                self._counts["embedded"] += 1
                self._work["added"] += task.previous is None
                self._embedded.add(_columns(ending))
            case RejectedRow():
                row, reason = ending.row, ending.reason
                self._rejected_by_reason[reason.value] += 1
                self._rejects_digest += reject_digest(row.image_id, row.image_uri, reason.value)
                self._rejected.add({**identity(row), **cause(reason.stage, reason.value, ending.detail)})
            case Reuse():
                self._counts["reused"] += 1
                self._work["added"] += task.previous is None
                how = _way_of_reuse(ending, outcome)
                self._work.update({how: 1, "altered": int(differs(ending, task.previous))})

    def close(self) -> RunCounts:
        """Finishes both files.

        Raises:
            StoreError: The store cannot be written.
        """
        files = tuple(file for file in (self._embedded.close(), self._rejected.close()) if file is not None)
        return RunCounts(
            embedded=self._counts["embedded"],
            reused=self._counts["reused"],
            rejected_by_reason=dict(self._rejected_by_reason),
            work=dict(self._work),
            files=files,
            rejects_digest=self._rejects_digest,
            fingerprints=(self._spec.fingerprint,),
        )

    def abandon(self) -> None:
        """Lets go of files that will never be listed."""
        self._embedded.abandon()
        self._rejected.abandon()


def _columns(ending: EmbeddedRow) -> dict[str, Any]:
    row, picture = ending.row, ending.picture
    return {
        **identity(row),
        "source_version": row.source_version,
        "content_sha256": picture.content_sha256,
        "width": picture.width,
        "height": picture.height,
        "attributes": list(row.attributes.items()),
        "embedding_norm": picture.norm,
        "embedding": picture.embedding,
    }


def _way_of_reuse(reuse: Reuse, outcome: PictureOutcome | None) -> str:
    """Which count in a manifest's `work` a reused row belongs to."""
    if reuse.stale_runs:
        return "stale"
    return "same_content" if isinstance(outcome, SameContent) else "unchanged"
