from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samples.design import COLOURS, PATTERNS, RGB, design_item, luma, shade

CHANNEL = st.integers(0, 255)


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_an_item_depends_on_the_seed_and_its_number_alone(number: int, seed: int) -> None:
    design = design_item("mug", number, seed)
    assert design_item("mug", number, seed) == design
    assert design_item("mug", number + 1, seed).knobs != design.knobs
    assert design_item("mug", number, seed + 1).knobs != design.knobs
    assert design_item("cap", number, seed) == dataclasses.replace(design, family="cap")


@given(st.integers(0, 10**6))
def test_a_design_can_be_drawn(number: int) -> None:
    design = design_item("mug", number, 1)
    assert design.item_id == f"mug-{number:06d}"
    assert design.colour in COLOURS
    assert design.pattern in PATTERNS
    assert design.title == f"{design.word.capitalize()} {design.colour} {design.pattern} mug"
    assert all(0 <= channel <= 255 for rgb in (design.main, design.accent, design.trim) for channel in rgb)
    # The contrast is that of the named colours, each of which is then moved by up to 9 of 255.
    assert abs(luma(design.accent) - luma(design.main)) >= 70 - 9
    assert all(low <= design.knob(index, low, 5) < 5 for index, low in enumerate((0, 1, 2, 3, 4, -1, -2, -3)))


@given(st.tuples(CHANNEL, CHANNEL, CHANNEL), st.floats(0, 2), st.floats(0, 2))
def test_a_larger_factor_is_never_darker(rgb: RGB, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert all(darker <= lighter for darker, lighter in zip(shade(rgb, low), shade(rgb, high), strict=True))
    assert (shade(rgb, 0), shade(rgb, 1), shade(rgb, 2)) == ((0, 0, 0), rgb, (255, 255, 255))


def test_brightness_is_that_of_a_grey_and_weighs_green_most() -> None:
    assert luma((128, 128, 128)) == pytest.approx(128)
    assert luma((0, 255, 0)) > luma((255, 0, 0)) > luma((0, 0, 255))
