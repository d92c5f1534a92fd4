from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index_builder.pages.charts import SERIES, Axis, Point, Target, plot
from tests.support.pages import HOSTILE, read_safe_page

SVG = "{http://www.w3.org/2000/svg}"
LINEAR, LOG = Axis("a"), Axis("b", log=True)
NUMBERS = st.one_of(st.just(0.0), st.floats(1e-9, 1e12), st.floats(-1e12, -1e-9))


def drawing(markup: str) -> ElementTree.Element:
    found = re.search(r"<svg.*</svg>", markup, re.DOTALL)
    assert found is not None
    return ElementTree.fromstring(found[0])


def centres(markup: str) -> list[tuple[float, float]]:
    return [(float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in drawing(markup).iter(SVG + "circle")]


def test_higher_values_lie_further_right_and_up_and_a_logarithm_is_one() -> None:
    low, middle, high = centres(plot([Point(1, 1), Point(10, 2), Point(100, 3)], LOG, LINEAR))
    assert middle[0] - low[0] == pytest.approx(high[0] - middle[0], abs=0.2)
    assert low[0] < high[0]
    assert low[1] > high[1]
    assert middle[1] - low[1] == pytest.approx(high[1] - middle[1], abs=0.2)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=8), st.booleans(), st.booleans())
def test_every_point_that_can_be_shown_lies_within_the_frame(
    places: list[tuple[float, float]], log_x: bool, log_y: bool
) -> None:
    points = [Point(x, y) for x, y in places]
    shown = [point for point in points if (point.x > 0 or not log_x) and (point.y > 0 or not log_y)]
    markup = plot(points, Axis("x", log=log_x), Axis("y", log=log_y))
    if not shown:
        assert "nothing to plot" in markup
        return
    dots = centres(markup)
    assert len(dots) == len(shown)
    assert all(70 <= x <= 740 and 16 <= y <= 372 for x, y in dots)
    labels = [text.text for text in drawing(markup).iter(SVG + "text")]
    assert 3 <= len(labels) <= 60


def test_what_is_not_a_number_is_left_out() -> None:
    points = [Point(float("nan"), 1), Point(1, float("inf")), Point(1, 1), Point(0, 1)]
    assert len(centres(plot(points, LOG, LINEAR))) == 1
    assert "nothing to plot" in plot(points[:2], LINEAR, LINEAR)


def test_target_line_and_the_chosen_point_are_marked() -> None:
    markup = plot(
        [Point(1, 0.9, "this one", chosen=True), Point(2, 0.99)],
        LINEAR,
        LINEAR,
        line=[Point(1, 0.9), Point(2, 0.99)],
        target=Target(0.95, "wanted"),
    )
    parsed = read_safe_page(markup)
    assert (parsed.classed("chosen"), parsed.classed("target"), parsed.classed("line")) == (1, 1, 1)
    (line,) = [one for one in drawing(markup).iter(SVG + "line") if one.attrib["class"] == "target"]
    chosen = centres(markup)[-1]
    assert float(line.attrib["y1"]) < chosen[1]
    assert "this one" in parsed.text
    assert "wanted" in parsed.text


def test_the_largest_series_have_colours_and_the_rest_share_one() -> None:
    points = [Point(place, place, series=f"series {place}") for place in range(SERIES + 3) for _ in range(20 - place)]
    parsed = read_safe_page(plot(points, LINEAR, LINEAR))
    assert parsed.classed("swatch") == SERIES + 1
    assert "series 0" in parsed.text
    assert "others" in parsed.text
    assert f"series {SERIES}" not in parsed.text


def test_hostile_names_stay_text() -> None:
    point = Point(1, 1, HOSTILE, HOSTILE)
    parsed = read_safe_page(plot([point], Axis(HOSTILE), Axis(HOSTILE), target=Target(1, HOSTILE)))
    assert parsed.text.count(HOSTILE) == 5


def test_series_are_coloured_in_the_order_they_come() -> None:
    points = [Point(1, 1, series="curve"), Point(2, 2, series="tried"), Point(3, 3, series="tried")]
    classes = [dot.attrib["class"] for dot in drawing(plot(points, LINEAR, LINEAR)).iter(SVG + "circle")]
    assert classes == ["s0", "s1", "s1"]
