"""Getting numpy the linear algebra kernels that the processor is good for."""

from __future__ import annotations

import os
from pathlib import Path


def choose_blas_kernels(cpuinfo: Path = Path("/proc/cpuinfo")) -> None:
    """Names the kernels for numpy's OpenBLAS, unless the environment does; to be called before numpy is imported.

    The OpenBLAS in numpy 1.26 does not know Intel's processors from 2023 on and takes them for one of 2004: a
    matrix-vector product then takes four times as long. Any Intel processor with AVX-512 can run the kernels of
    Skylake-X, and any with AVX2 and FMA those of Haswell.
    """
    try:
        text = cpuinfo.read_text(encoding="ascii", errors="replace")
    except OSError:
        return
    if "GenuineIntel" not in text:
        return
    flags = next((line.split(":", 1)[1].split() for line in text.splitlines() if line.startswith("flags")), [])
    if {"avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512cd"} <= set(flags):
        os.environ.setdefault("OPENBLAS_CORETYPE", "SkylakeX")
    elif {"avx2", "fma"} <= set(flags):
        os.environ.setdefault("OPENBLAS_CORETYPE", "Haswell")
