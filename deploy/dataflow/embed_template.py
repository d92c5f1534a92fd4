"""What a Dataflow Flex Template runs on its launcher: `shelfmark embed` with the template's parameters as flags.

The launcher does not start the job. It names a file by --template_location, Beam writes the job's graph there, and the
job starts once this program has ended with 0. The snapshot is committed by the job's own last step, so there is nothing
to wait for here, and `shelfmark embed`, which looks for the snapshot when its pipeline is done, finds none yet.
"""

from __future__ import annotations

import subprocess
import sys

from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions


def main(flags: list[str]) -> int:
    """Runs `shelfmark embed`; a table that a template is given is trusted only where its parameters say so.

    Args:
        flags: --name=value, as a Flex Template passes them.

    Returns:
        Its exit code, or 0 where the graph was handed over to Dataflow.
    """
    graph: str | None = PipelineOptions(flags).view_as(GoogleCloudOptions).template_location
    done = subprocess.run([sys.executable, "-m", "pipelines.cli.main", "embed", "--trust=none", *flags], check=False)
    if graph is None or not FileSystems.exists(graph):
        return done.returncode
    print(f"shelfmark: the job's graph is {graph}; the job itself commits the snapshot", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
