"""Getting numpy the linear algebra kernels that the processor is good for."""

from __future__ import annotations

import os
from pathlib import Path

from store.machine import proc_fields


def choose_blas_kernels(proc: Path = Path("/proc")) -> None:
    """Names the kernels for numpy's OpenBLAS, unless the environment does; to be called before numpy is imported.

    The OpenBLAS in numpy 1.26 does not know Intel's processors from 2023 on and takes them for one of 2004: a
    matrix-vector product then takes four times as long. Any Intel processor with AVX-512 can run the kernels of
    Skylake-X, and any with AVX2 and FMA those of Haswell.
    """
    fields = proc_fields("cpuinfo", proc)
    if fields.get("vendor_id") != "GenuineIntel":
        return
    flags = set(fields.get("flags", "").split())
    if {"avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512cd"} <= flags:
        os.environ.setdefault("OPENBLAS_CORETYPE", "SkylakeX")
    elif {"avx2", "fma"} <= flags:
        os.environ.setdefault("OPENBLAS_CORETYPE", "Haswell")
