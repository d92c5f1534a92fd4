"""A snapshot becomes a published index: the use case behind `shelfmark index`."""

from __future__ import annotations

import functools
import os

from index_builder import build
from pipelines.log import LOG
from pipelines.requests import IndexRequest
from pipelines.results import IndexVersion
from pipelines.thumbnails import open_index_thumbnails
from store.location import Store


def build_index(request: IndexRequest) -> IndexVersion:
    """Builds the index of a snapshot, measures it against exact search, and publishes it.

    Raises:
        UserError: There is no such snapshot, or a choice makes no sense.
        GateRefused: Recall is under its target, or a person's rollback stands; what is published stays.
        StoreError: The snapshot is damaged, or the version cannot be written.
    """
    store = Store(os.fspath(request.store))
    store.check_writable()
    manifest = build.build_index(
        store,
        build.BuildRequest.of(request, request.snapshot),
        LOG.info,
        run_shards=_beam_workers(request) if request.beam else None,
        thumbnails_of=functools.partial(open_index_thumbnails, store, request.trusted()),
        over_rollback=request.publish,
    )
    return IndexVersion.of(store, manifest)


def _beam_workers(request: IndexRequest) -> build.RunShards:
    from pipelines.beam_flags import parse_beam_flags
    from pipelines.index_shards import shards_on_beam

    return shards_on_beam(parse_beam_flags(list(request.beam_flags)))
