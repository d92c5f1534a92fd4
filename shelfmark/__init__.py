"""Shelfmark: embeds the pictures of a product catalog and answers what looks like this.

    import shelfmark

    snapshot = shelfmark.embed("products.csv", "./store", backbone="resnet50")
    version = shelfmark.build_index("./store", target_recall=0.95)
    searcher = shelfmark.open_searcher("./store")
    matches = searcher.search_pictures(["photo.jpg"], k=5, where={"category": "shoe"})

Every function takes the fields of its request as keywords: `embed(catalog, store, **fields of EmbedRequest)`. Results
have `to_dict()`, equal to what the command prints with --format json, and show themselves in a notebook. Importing this
costs next to nothing; a name is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from index_builder.search import Hit as Hit
    from pipelines.evaluate import Evaluated as Evaluated
    from pipelines.reindex_plan import ReindexPlan as ReindexPlan
    from pipelines.rejects import Rejects as Rejects
    from pipelines.rejects import RejectsRequest as RejectsRequest
    from pipelines.requests import EmbedRequest as EmbedRequest
    from pipelines.requests import EvaluateRequest as EvaluateRequest
    from pipelines.requests import IndexRequest as IndexRequest
    from pipelines.requests import PruneRequest as PruneRequest
    from pipelines.requests import ReindexRequest as ReindexRequest
    from pipelines.results import IndexVersion as IndexVersion
    from pipelines.results import Reindexed as Reindexed
    from pipelines.results import Snapshot as Snapshot
    from pipelines.runs import Runs as Runs
    from pipelines.runs import RunsRequest as RunsRequest
    from pipelines.search import CatalogSearcher as CatalogSearcher
    from pipelines.search_result import SearchResult as SearchResult
    from pipelines.versions import PruneResult as PruneResult
    from pipelines.versions import RolledBack as RolledBack
    from pipelines.versions import Versions as Versions
    from shelfmark.reading import evaluate as evaluate
    from shelfmark.reading import list_rejects as list_rejects
    from shelfmark.reading import list_runs as list_runs
    from shelfmark.reading import list_versions as list_versions
    from shelfmark.reading import open_searcher as open_searcher
    from shelfmark.writing import build_index as build_index
    from shelfmark.writing import embed as embed
    from shelfmark.writing import plan_reindex as plan_reindex
    from shelfmark.writing import prune as prune
    from shelfmark.writing import reindex as reindex
    from shelfmark.writing import rollback as rollback
    from store.errors import GateRefused as GateRefused
    from store.errors import StoreError as StoreError
    from store.errors import UserError as UserError

    __version__: str

_MODULES = {
    "index_builder.search": ("Hit",),
    "pipelines.evaluate": ("Evaluated",),
    "pipelines.reindex_plan": ("ReindexPlan",),
    "pipelines.rejects": ("Rejects", "RejectsRequest"),
    "pipelines.requests": ("EmbedRequest", "EvaluateRequest", "IndexRequest", "PruneRequest", "ReindexRequest"),
    "pipelines.results": ("IndexVersion", "Reindexed", "Snapshot"),
    "pipelines.runs": ("Runs", "RunsRequest"),
    "pipelines.search": ("CatalogSearcher",),
    "pipelines.search_result": ("SearchResult",),
    "pipelines.versions": ("PruneResult", "RolledBack", "Versions"),
    "shelfmark.reading": ("evaluate", "list_rejects", "list_runs", "list_versions", "open_searcher"),
    "shelfmark.writing": ("build_index", "embed", "plan_reindex", "prune", "reindex", "rollback"),
    "store.errors": ("GateRefused", "StoreError", "UserError"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = ["__version__", *sorted(_HOMES)]  # noqa: PLE0604 (names of strings, gathered above)


def __getattr__(name: str) -> object:
    if name == "__version__":
        return importlib.import_module("store.release").VERSION
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
