"""The part of the command line that belongs to Beam."""

from __future__ import annotations

from apache_beam.options.pipeline_options import (
    PipelineOptions,
    SetupOptions,
    StandardOptions,
    _BeamArgumentParser,
)

from fetch.file_systems import open_file_systems
from store.errors import UserError

LOCAL_RUNNERS = ("FnApiRunner", "DirectRunner", "PrismRunner", "SwitchingDirectRunner", "BundleBasedDirectRunner")

FN_API_RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"


def parse_beam_flags(flags: list[str]) -> PipelineOptions:
    """Beam's options from the flags that Shelfmark does not know.

    Without --runner a run happens here, in this process. A local run takes no flag that Beam does not know; another
    runner may have flags of its own.

    Raises:
        UserError: A flag that nobody knows; the message names the nearest one.
    """
    if not any(flag == "--runner" or flag.startswith("--runner=") for flag in flags):
        flags = [*flags, f"--runner={FN_API_RUNNER}"]
    known, unknown = _split_known(flags)
    options = PipelineOptions(known + unknown)
    if unknown and is_local(options):
        raise UserError(f"unknown flag {unknown[0]}: see --help, and Beam's pipeline options")
    options.view_as(SetupOptions).save_main_session = False
    open_file_systems(options)
    return options


def _split_known(flags: list[str]) -> tuple[list[str], list[str]]:
    _, unknown = _beams_parser().parse_known_args(flags)
    return [flag for flag in flags if flag not in unknown], unknown


def is_known(flag: str) -> bool:
    """Whether Beam has a flag of this name, such as --num_workers."""
    return flag in _beams_parser()._option_string_actions


def _beams_parser() -> _BeamArgumentParser:
    parser = _BeamArgumentParser(allow_abbrev=False, add_help=False)
    for cls in _all_subclasses(PipelineOptions):
        cls._add_argparse_args(parser)
    return parser


def _all_subclasses(cls: type[PipelineOptions]) -> list[type[PipelineOptions]]:
    children: list[type[PipelineOptions]] = cls.__subclasses__()
    return children + [grandchild for child in children for grandchild in _all_subclasses(child)]


def is_local(options: PipelineOptions) -> bool:
    """True where every worker is on this machine."""
    runner = str(options.view_as(StandardOptions).runner or "DirectRunner")
    return runner.rsplit(".", 1)[-1] in LOCAL_RUNNERS
