"""What changes a store. Loads Beam."""

from __future__ import annotations

from pipelines import embed as embedding
from pipelines import index as indexing
from pipelines import reindex as reindexing
from pipelines import reindex_plan, versions
from pipelines.requests import EmbedRequest, IndexRequest, PruneRequest, ReindexRequest
from pipelines.versions import rollback
from shelfmark.keywords import of_fields

__all__ = ["build_index", "embed", "plan_reindex", "prune", "reindex", "rollback"]

embed = of_fields(EmbedRequest, embedding.embed)
build_index = of_fields(IndexRequest, indexing.build_index)
reindex = of_fields(ReindexRequest, reindexing.reindex)
plan_reindex = of_fields(ReindexRequest, reindex_plan.plan_reindex)
prune = of_fields(PruneRequest, versions.prune)
