"""The record of a run: written after every step, and told to whoever wants to know how the run ended."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from typing import Any

from pipelines.log import LOG
from pipelines.notify import notify
from pipelines.run_metrics import write_metrics_file
from store.errors import GateRefused, StoreError
from store.lease import LeaseHeld
from store.location import Store
from store.process import utc_now
from store.runs import RunRecord, write_run


class RunJournal:
    """Keeps a run's record.

    Attributes:
        record: As far as the run has come.
    """

    def __init__(self, store: Store, record: RunRecord) -> None:
        """Takes the record of a run that begins; writes nothing yet."""
        self.record = record
        self._store = store

    def note(self, **changes: Any) -> None:
        """Changes the record and writes it.

        Raises:
            StoreError: It cannot be written.
        """
        self.record = dataclasses.replace(self.record, **changes)
        write_run(self._store, self.record)

    @contextlib.contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Adds the seconds that the block takes to the record, to be written with the next note."""
        began = time.perf_counter()
        try:
            yield
        finally:
            seconds = {**self.record.seconds, step: round(time.perf_counter() - began, 3)}
            self.record = dataclasses.replace(self.record, seconds=seconds)

    @contextlib.contextmanager
    def told(self, notify_url: str | None, metrics_file: str | None) -> Iterator[None]:
        """Sees to it that however the block ends, the record, the metrics and the notification say so.

        Args:
            notify_url: Of a webhook.
            metrics_file: For a node exporter.
        """
        try:
            yield
        except BaseException as error:
            published = self.record.outcome == "published"
            outcome = "published" if published else _outcome_of(error)
            self._publish_end(outcome, " ".join(str(error).split()) or type(error).__name__, notify_url, metrics_file)
            raise
        self._publish_end(self.record.outcome, self.record.message, notify_url, metrics_file)

    def _publish_end(self, outcome: str, message: str, notify_url: str | None, metrics_file: str | None) -> None:
        now = utc_now()
        try:
            self.note(outcome=outcome, message=message, ended_at=now.isoformat())
        except StoreError as error:  # the run has ended as it has: what cannot be written down must not hide that
            LOG.warning(f"the run's record could not be written: {error}")
        if metrics_file:
            try:
                write_metrics_file(metrics_file, self.record, now)
            except StoreError as error:
                LOG.warning(f"--metrics_file: {error}")
        if notify_url:
            failure = notify(notify_url, self.record)
            if failure:
                LOG.warning(f"--notify: {failure}")


def _outcome_of(error: BaseException) -> str:
    if isinstance(error, GateRefused):
        return "refused"
    if isinstance(error, LeaseHeld):
        return "held_off"
    return "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
