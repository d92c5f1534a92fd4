"""Which precision is fastest on this hardware, and whether its embeddings can be trusted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from encoder.tensorflow import has_gpu, tensorflow

MIN_COSINE = 0.999
"""Least cosine between a picture's embeddings in float32 and in the precision on trial."""


def processor_precision(cpu_flags: frozenset[str], vendor: str) -> str:
    """The fastest precision on a processor, by its /proc/cpuinfo flags and vendor_id.

    Measured with ResNet50: on Zen 4, bfloat16 does twice the pictures of float32; on an Intel processor with
    avx512_bf16 and no AMX, 0.6 of them.
    """
    fast = "amx_bf16" in cpu_flags or (vendor == "AuthenticAMD" and "avx512_bf16" in cpu_flags)
    return "bfloat16" if fast else "float32"


def gpu_precision(compute_capability: tuple[int, int]) -> str:
    """The fastest precision on an NVIDIA GPU: bfloat16 from Ampere (8.0) on, float16 from Volta (7.0) on."""
    if compute_capability >= (8, 0):
        return "bfloat16"
    return "float16" if compute_capability >= (7, 0) else "float32"


def read_cpu_info(path: Path = Path("/proc/cpuinfo")) -> tuple[frozenset[str], str]:
    """The first processor's flags and vendor; empty where the system does not tell."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return frozenset(), ""
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    return frozenset(fields.get("flags", "").split()), fields.get("vendor_id", "")


def fastest_precision() -> str:
    """The fastest precision on the hardware TensorFlow computes on in this process."""
    if not has_gpu():
        return processor_precision(*read_cpu_info())
    config = tensorflow().config
    details = config.experimental.get_device_details(config.get_visible_devices("GPU")[0])
    return gpu_precision(details.get("compute_capability", (0, 0)))


def check_precision(reference: npt.NDArray[np.float32], candidate: npt.NDArray[np.float32]) -> float:
    """The least cosine between the rows of two float32[n, D] arrays of the same pictures.

    Rows that are not finite in the reference say nothing and are skipped; a row that is finite there and not in the
    candidate counts as -1. With no row to compare, 1.
    """
    usable = np.isfinite(reference).all(axis=1)
    left, right = reference[usable].astype(np.float64), candidate[usable].astype(np.float64)
    if not len(left):
        return 1.0
    broken = ~np.isfinite(right).all(axis=1)
    right[broken] = -left[broken]
    left_norm, right_norm = np.linalg.norm(left, axis=1), np.linalg.norm(right, axis=1)
    norms = left_norm * right_norm
    both_zero = (left_norm == 0) & (right_norm == 0)
    cosines = np.where(both_zero, 1.0, (left * right).sum(axis=1) / np.where(norms == 0, 1.0, norms))
    return float(cosines.min())
