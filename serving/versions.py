"""Opening versions, in one worker or in several that must not fail together."""

from __future__ import annotations

import os
from pathlib import Path

from serving.logs import LOG
from serving.options import ServeOptions
from serving.published import ServedVersion, open_published
from serving.sources import PictureSources
from store.errors import StoreError, UserError


class Versions:
    """Opens versions of a store, and notes for other workers which one could be served."""

    def __init__(self, options: ServeOptions, sources: PictureSources, note: Path | None) -> None:
        """Takes where from.

        Args:
            options: Which store, and whether pictures are embedded.
            sources: Where the catalog's pictures are.
            note: A file that all workers share, with the version that was opened last; None for one worker.
        """
        self._options = options
        self._sources = sources
        self._note = note

    def open(self, version: str | None, before: ServedVersion | None = None) -> ServedVersion:
        """As `open_published`, and notes it."""
        opened = open_published(self._options, self._sources, version, before)
        if self._note is not None:
            partial = self._note.with_name(f"{self._note.name}.{os.getpid()}")
            partial.write_text(opened.version)
            os.replace(partial, self._note)
        return opened

    def open_first(self) -> ServedVersion:
        """The version that CURRENT names; a worker that takes a dead one's place may go on with what the others serve.

        Raises:
            UserError: Nothing is published.
            StoreError: What is published cannot be served, and no worker serves anything.
        """
        try:
            return self.open(None)
        except (StoreError, UserError) as error:
            if self._note is None or not self._note.exists():
                raise
            LOG.error("refused", extra={"reason": str(error)})
            return self.open(self._note.read_text())
