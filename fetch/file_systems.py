"""Beam's file systems outside a pipeline; Beam is imported when they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions


def open_file_systems(options: PipelineOptions | None = None) -> None:
    """Lets Beam's file systems work in this process.

    Args:
        options: A pipeline's, which hold from now on. None for those that hold already, a worker's or an earlier
            call's, and for what the environment says where there are none.
    """
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.options.value_provider import RuntimeValueProvider

    if options is None and (FileSystems._pipeline_options is not None or RuntimeValueProvider.runtime_options):
        return
    FileSystems.set_options(options or PipelineOptions([]))
