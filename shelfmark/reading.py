"""What reads a store. Loads no Beam."""

from __future__ import annotations

from pipelines import evaluate as evaluating
from pipelines import rejects, runs
from pipelines.requests import EvaluateRequest
from pipelines.search import open_searcher
from pipelines.versions import list_versions
from shelfmark.keywords import of_fields

__all__ = ["evaluate", "list_rejects", "list_runs", "list_versions", "open_searcher"]

evaluate = of_fields(EvaluateRequest, evaluating.evaluate)
list_rejects = of_fields(rejects.RejectsRequest, rejects.list_rejects)
list_runs = of_fields(runs.RunsRequest, runs.list_runs)
