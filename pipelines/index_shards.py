"""The shards of an index, one per Beam worker: for catalogs larger than any one machine builds in good time."""

from __future__ import annotations

from collections.abc import Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineState

from index_builder.build import RunShards, ShardTask, build_shard
from pipelines.embed_pipeline import root_cause
from store.errors import StoreError


def shards_on_beam(options: PipelineOptions) -> RunShards:
    """A way to build shards: each is an element, and a retried element writes the same files again."""

    def run(tasks: Sequence[ShardTask], workers: int) -> None:
        del workers  # the runner decides
        pipeline = beam.Pipeline(options=options)
        _ = (
            pipeline
            | "ListShards" >> beam.Create(list(tasks))
            | "SpreadShards" >> beam.Reshuffle()
            | "BuildShards" >> beam.Map(build_shard)
        )
        try:
            state = pipeline.run().wait_until_finish()
        except Exception as error:
            raise StoreError(root_cause(str(error))) from error
        if state != PipelineState.DONE:
            raise StoreError(f"the pipeline that builds shards ended {state}; nothing was published")

    return run
