"""What this machine can do: whether the pinned set loads, the precision models run in, GPUs, weights and room."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from store.machine import proc_fields, processors

# Distribution name -> module. TensorFlow comes before the two that are built against it.
PACKAGES: Mapping[str, str] = {
    "numpy": "numpy",
    "pyarrow": "pyarrow",
    "tensorflow": "tensorflow",
    "tensorflow-io": "tensorflow_io",
    "scann": "scann",
    "apache-beam": "apache_beam",
}
FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_int8")
PROBE_TIMEOUT_S = 300
_MARK = "shelfmark-probe "
_GIB = 1 << 30


@dataclasses.dataclass(frozen=True, slots=True)
class PackageCheck:
    """One package of the pinned set.

    Attributes:
        name: Distribution name.
        version: Installed version, or None.
        load_s: Seconds its import took after those listed before it, or None where it did not load.
        error: Why it did not load, in one line; empty where it did.
    """

    name: str
    version: str | None
    load_s: float | None
    error: str


@dataclasses.dataclass(frozen=True, slots=True)
class Processor:
    """The processor, the cores this process may use, and those of `FEATURES` that it has."""

    model: str
    cores: int
    features: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Room:
    """Free and total bytes of what a folder or the memory holds."""

    place: str
    free_bytes: int
    total_bytes: int


@dataclasses.dataclass(frozen=True, slots=True)
class Probe:
    """What the subprocess told.

    Attributes:
        packages: The pinned set, in the order it was imported.
        gpus: One line for each GPU that TensorFlow sees.
        precision: The fastest on what TensorFlow computes on; None where it could not be asked.
        devices_error: Why it could not, in one line.
    """

    packages: tuple[PackageCheck, ...]
    gpus: tuple[str, ...]
    precision: str | None
    devices_error: str


@dataclasses.dataclass(frozen=True, slots=True)
class DoctorReport:
    """Everything `shelfmark doctor` found out.

    Attributes:
        python: Version and path of the interpreter.
        system: Operating system and machine type.
        packages: The pinned set, in the order it was imported.
        processor: The processor.
        gpus: One line for each GPU that TensorFlow sees.
        precision: What `--precision auto` will try first; None where TensorFlow could not be asked.
        devices_error: Why GPUs and precision are not known, in one line; empty where they are.
        weights_folder: Where Keras keeps downloaded ImageNet weights.
        weights: File names of the ResNet50 weights found there.
        disks: Room in the working and the temporary folder.
        memory: Room in memory; None where the system does not tell.
    """

    python: str
    system: str
    packages: tuple[PackageCheck, ...]
    processor: Processor
    gpus: tuple[str, ...]
    precision: str | None
    devices_error: str
    weights_folder: str
    weights: tuple[str, ...]
    disks: tuple[Room, ...]
    memory: Room | None

    @property
    def healthy(self) -> bool:
        """Whether every package of the pinned set loads beside the others."""
        return all(package.load_s is not None for package in self.packages)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON values, with `healthy` beside the fields."""
        return {"healthy": self.healthy, **dataclasses.asdict(self)}


def examine() -> DoctorReport:
    """Looks at this machine; imports the pinned set in one subprocess, whose noise is swallowed. Takes seconds."""
    found = _run_probe()
    weights_folder, weights = find_weights()
    return DoctorReport(
        python=f"{platform.python_version()} at {sys.executable}",
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        packages=found.packages,
        processor=_processor(),
        gpus=found.gpus,
        precision=found.precision,
        devices_error=found.devices_error,
        weights_folder=weights_folder,
        weights=weights,
        disks=tuple(_disk(folder) for folder in (str(Path.cwd()), tempfile.gettempdir())),
        memory=_memory(),
    )


def render(report: DoctorReport) -> str:
    """The report as text in two columns, one fact a line."""
    rows = [("Python", report.python), ("system", report.system)]
    rows += [(package.name, _package_text(package)) for package in report.packages]
    processor = report.processor
    rows += [
        ("processor", f"{processor.model}, {processor.cores} cores"),
        ("features", " ".join(processor.features) or "none that matter"),
    ]
    rows += [("GPU", gpu) for gpu in report.gpus or (report.devices_error or "none",)]
    rows.append(("precision", report.precision or "unknown"))
    rows.append(("weights", f"{', '.join(report.weights) or 'none yet'} in {report.weights_folder}"))
    rows += [("disk", _room_text(disk)) for disk in report.disks]
    if report.memory is not None:
        rows.append(("memory", _room_text(report.memory)))
    rows.append(("verdict", _verdict(report)))
    width = max(len(label) for label, _ in rows)
    return "\n".join(f"{label:<{width}}  {text}" for label, text in rows)


def find_weights() -> tuple[str, tuple[str, ...]]:
    """The folder in which Keras keeps downloaded weights, and the names of the ResNet50 files there."""
    folder = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models"
    return str(folder), tuple(sorted(path.name for path in folder.glob("resnet50_weights*.h5")))


def probe() -> None:
    """Imports the pinned set into this process and writes what happened to stdout, one marked JSON line a package.

    Written as it goes, because a native library that does not fit may end the process.
    """
    for module in PACKAGES.values():
        start = time.perf_counter()
        try:
            importlib.import_module(module)
            _load_native_part(module)
        except Exception as error:
            _print_finding({"module": module, "error": _one_line(error)})
        else:
            _print_finding({"module": module, "load_s": round(time.perf_counter() - start, 2)})
    try:
        # Here and not above: its import needs NumPy, which may be what is broken.
        from encoder.precision import fastest_precision

        _print_finding({"gpus": _gpus(), "precision": fastest_precision()})
    except Exception as error:
        _print_finding({"devices_error": _one_line(error)})


def _load_native_part(module: str) -> None:
    """Loads what the import itself leaves for later: tensorflow-io opens its library at the first operation."""
    if module == "tensorflow_io":
        dir(importlib.import_module("tensorflow_io.python.ops").core_ops)


def _gpus() -> list[str]:
    import tensorflow as tf

    devices = tf.config.list_physical_devices("GPU")
    return [_gpu_text(tf.config.experimental.get_device_details(device)) for device in devices]


def _gpu_text(details: Mapping[str, Any]) -> str:
    capability = ".".join(str(part) for part in details.get("compute_capability", ()))
    name = str(details.get("device_name", "unnamed"))
    return f"{name}, compute capability {capability}" if capability else name


def _print_finding(finding: Mapping[str, Any]) -> None:
    # The line break ends whatever a library may have left unfinished on stdout.
    print(f"\n{_MARK}{json.dumps(finding)}", flush=True)


def _run_probe() -> Probe:
    root = str(Path(__file__).resolve().parent.parent)
    code = f"import sys; sys.path.insert(0, {root!r}); from pipelines.doctor import probe; probe()"
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=PROBE_TIMEOUT_S, check=False)
        output, ending = done.stdout, f"the interpreter ended with status {done.returncode} while loading it"
    except subprocess.TimeoutExpired as expired:
        output, ending = expired.stdout or b"", f"did not load within {PROBE_TIMEOUT_S} s"
    return read_probe(output.decode(errors="replace"), ending)


def read_probe(output: str, ending: str) -> Probe:
    """Turns what `probe` wrote into findings.

    Args:
        output: The subprocess's stdout; lines that `probe` did not write are passed over.
        ending: How the subprocess ended: the error of a package on which it said nothing.
    """
    findings = [json.loads(line.removeprefix(_MARK)) for line in output.splitlines() if line.startswith(_MARK)]
    by_module = {finding["module"]: finding for finding in findings if "module" in finding}
    checks = []
    for name, module in PACKAGES.items():
        finding = by_module.get(module, {"error": ending})
        checks.append(PackageCheck(name, _version(name), finding.get("load_s"), finding.get("error", "")))
    devices = next((finding for finding in findings if "module" not in finding), {"devices_error": ending})
    gpus = tuple(devices.get("gpus", ()))
    return Probe(tuple(checks), gpus, devices.get("precision"), devices.get("devices_error", ""))


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _processor() -> Processor:
    fields = proc_fields("cpuinfo")
    model = fields.get("model name") or platform.processor() or platform.machine()
    flags = fields.get("flags", "").split()
    return Processor(model, processors(), tuple(feature for feature in FEATURES if feature in flags))


def _disk(folder: str) -> Room:
    usage = shutil.disk_usage(folder)
    return Room(folder, usage.free, usage.total)


def _memory() -> Room | None:
    kib = {name: int(value.split()[0]) for name, value in proc_fields("meminfo").items()}
    return Room("memory", kib["MemAvailable"] * 1024, kib["MemTotal"] * 1024) if kib else None


def _package_text(package: PackageCheck) -> str:
    version = package.version or "not installed"
    return f"{version}, does not load: {package.error}" if package.load_s is None else f"{version}, {package.load_s} s"


def _room_text(room: Room) -> str:
    return f"{room.free_bytes / _GIB:.1f} of {room.total_bytes / _GIB:.1f} GiB free in {room.place}"


def _verdict(report: DoctorReport) -> str:
    if report.healthy:
        return "the pinned set loads together"
    broken = ", ".join(package.name for package in report.packages if package.load_s is None)
    return f"{broken} did not load; install the pinned set with python constraints/install.py"
