"""The rules that pick a precision, and the check that trusts it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoder.precision import check_precision, gpu_precision, processor_precision, read_cpu_info


@pytest.mark.parametrize(
    ("flags", "vendor", "expected"),
    [
        ({"avx512_bf16", "avx2"}, "AuthenticAMD", "bfloat16"),
        ({"avx512_bf16", "avx2"}, "GenuineIntel", "float32"),
        ({"avx512_bf16", "amx_bf16", "amx_tile"}, "GenuineIntel", "bfloat16"),
        ({"avx2", "amx_tile"}, "GenuineIntel", "float32"),
        ({"avx2"}, "AuthenticAMD", "float32"),
        (set(), "", "float32"),
    ],
)
def test_processor(flags: set[str], vendor: str, expected: str) -> None:
    assert processor_precision(frozenset(flags), vendor) == expected


@pytest.mark.parametrize(
    ("capability", "expected"),
    [((9, 0), "bfloat16"), ((8, 0), "bfloat16"), ((7, 5), "float16"), ((7, 0), "float16"), ((6, 1), "float32")],
)
def test_gpu(capability: tuple[int, int], expected: str) -> None:
    assert gpu_precision(capability) == expected


def test_cpu_info_is_the_first_processors(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text("vendor_id\t: AuthenticAMD\nflags\t\t: fpu avx512_bf16\n\nvendor_id\t: Other\nflags\t: fpu\n")
    assert read_cpu_info(path) == (frozenset({"fpu", "avx512_bf16"}), "AuthenticAMD")


def test_cpu_info_where_there_is_none(tmp_path: Path) -> None:
    assert processor_precision(*read_cpu_info(tmp_path / "absent")) == "float32"


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 8), st.floats(0, 2))
def test_check_is_the_least_cosine(seed: int, rows: int, columns: int, noise: float) -> None:
    rng = np.random.default_rng(seed)
    reference = rng.normal(size=(rows, columns)).astype(np.float32)
    candidate = (reference + noise * rng.normal(size=reference.shape)).astype(np.float32)
    cosines = [
        float(np.dot(a, b)) / float(np.linalg.norm(a) * np.linalg.norm(b))
        for a, b in zip(reference.astype(float), candidate.astype(float), strict=True)
    ]
    assert check_precision(reference, candidate) == pytest.approx(min(cosines), abs=1e-9)


def test_check_with_rows_that_are_not_finite() -> None:
    fine, overflowed = np.ones((1, 3), np.float32), np.full((1, 3), np.inf, np.float32)
    both = np.concatenate([fine, overflowed])
    assert check_precision(both, both) == pytest.approx(1.0), "a row that is bad in float32 says nothing"
    assert check_precision(np.concatenate([fine, fine]), both) == pytest.approx(-1.0)
    assert check_precision(overflowed, overflowed) == 1.0


def test_check_with_zero_rows() -> None:
    zero, one = np.zeros((1, 3), np.float32), np.ones((1, 3), np.float32)
    assert check_precision(zero, zero) == 1.0
    assert check_precision(one, zero) == 0.0
