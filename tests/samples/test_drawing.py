from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samples.drawing import box, curve, ellipse, lines, mirrored

COORDINATE = st.floats(-1, 1)
SIZE = st.floats(0.05, 1)


@given(st.lists(st.tuples(st.floats(0.01, 1), COORDINATE), min_size=2, max_size=6))
def test_a_mirrored_outline_is_symmetric(right: list[tuple[float, float]]) -> None:
    outline = {(round(x, 9), round(y, 9)) for x, y in mirrored(*right)}
    assert outline == {(-x, y) for x, y in outline}
    assert outline >= {(round(x, 9), round(y, 9)) for x, y in right}


@given(st.lists(st.tuples(COORDINATE, COORDINATE), min_size=3, max_size=6))
def test_corners_are_joined_by_straight_lines_and_the_outline_is_closed(points: list[tuple[float, float]]) -> None:
    outline = curve(*points)
    assert outline.tolist() == [list(point) for point in (*points, points[0])]
    assert lines(*points).tolist() == [list(point) for point in points]


@given(COORDINATE, COORDINATE)
def test_a_control_point_bends_the_line_as_de_casteljau_has_it(x: float, y: float) -> None:
    start, control, end = np.array([0.0, 0.0]), np.array([x, y]), np.array([1.0, 0.0])
    bend = curve((0, 0), (x, y, 1), (1, 0))[:-2]  # without the end as a corner of its own, and the way back
    for point, share in zip(bend, np.linspace(0, 1, len(bend)), strict=True):
        before, after = start + share * (control - start), control + share * (end - control)
        np.testing.assert_allclose(point, before + share * (after - before), atol=1e-9)


@given(COORDINATE, COORDINATE, SIZE, SIZE)
def test_every_point_of_an_ellipse_is_on_it(x: float, y: float, width: float, height: float) -> None:
    outline = ellipse(x, y, width, height)
    np.testing.assert_allclose(((outline - [x, y]) / [width, height]) ** 2 @ [1, 1], 1, atol=1e-9)
    np.testing.assert_allclose(outline[0], [x + width, y], atol=1e-9)
    np.testing.assert_allclose(ellipse(x, y, width, height, 0, 90)[-1], [x, y + height], atol=1e-9)  # y grows downwards


@given(COORDINATE, COORDINATE, SIZE, SIZE, st.floats(0.01, 0.5))
def test_a_rounded_box_fills_its_sides_and_leaves_its_corners(
    left: float, top: float, width: float, height: float, share: float
) -> None:
    right, bottom, radius = left + width, top + height, share * min(width, height)
    outline = box(left, top, right, bottom, radius)
    assert outline.min(axis=0) == pytest.approx([left, top])
    assert outline.max(axis=0) == pytest.approx([right, bottom])
    corners = np.array(box(left, top, right, bottom))
    distances = np.linalg.norm(outline[:, None] - corners[None], axis=2)
    assert distances.min() >= radius * (2**0.5 - 1) - 1e-9
