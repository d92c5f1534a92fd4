"""Line and scatter plots as inline SVG; what a point stands for is shown when a pointer rests on it."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Sequence

from index_builder.pages.html import Html, element, join

__all__ = ["Axis", "Point", "Target", "plot"]

SERIES = 8
"""Series that get a colour of their own, the largest; the others share one."""

_WIDTH, _HEIGHT = 760, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 16, 48
_TICKS = 6


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    """One point.

    Attributes:
        x: On the horizontal axis.
        y: On the vertical axis.
        tooltip: What it stands for.
        series: Points of one series have one colour; an empty name is the first colour, and not in the legend.
        chosen: Ringed.
    """

    x: float
    y: float
    tooltip: str = ""
    series: str = ""
    chosen: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Axis:
    """An axis: its title, with the unit, and whether it is logarithmic."""

    title: str
    log: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """A dashed line across the plot at a value of the vertical axis."""

    y: float
    title: str


@dataclasses.dataclass(frozen=True, slots=True)
class _Scale:
    """Values to pixels along one axis."""

    low: float
    high: float
    log: bool
    start_px: float
    stop_px: float

    def __call__(self, value: float) -> float:
        low, high, value = (math.log10(x) if self.log else x for x in (self.low, self.high, value))
        return self.start_px + (value - low) / (high - low) * (self.stop_px - self.start_px)

    def ticks(self) -> list[float]:
        """Round numbers within the range, at least two of them."""
        if self.log:
            found = [
                digit * 10.0**power
                for power in range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
                for digit in (1, 2, 5)
                if self.low <= digit * 10.0**power <= self.high
            ]
            step = math.ceil(len(found) / (2 * _TICKS))
            if len(found) > 1:
                return found[::step]
        rough = (self.high - self.low) / _TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        step_size = min((digit * power for digit in (1, 2, 5, 10)), key=lambda size: abs(size - rough))
        first, last = math.ceil(self.low / step_size), math.floor(self.high / step_size)
        return [number * step_size for number in range(first, last + 1)]


def plot(
    points: Sequence[Point], x: Axis, y: Axis, *, line: Sequence[Point] = (), target: Target | None = None
) -> Html:
    """A scatter plot, with a legend where there are series.

    Args:
        points: What to show; those that are not finite, or not above 0 on a logarithmic axis, are left out.
        x: The horizontal axis.
        y: The vertical axis.
        line: Points to join, in this order, below the others.
        target: A line to draw.

    Returns:
        An <svg>, and below it the legend; a sentence where there is nothing to show.
    """
    points = [point for point in points if _shows(point, x, y)]
    line = [point for point in line if _shows(point, x, y)]
    everything = [*points, *line]
    if not everything:
        return element("p", "There is nothing to plot.", class_="faint")
    values = [point.y for point in everything] + ([target.y] if target else [])
    across = _scale([point.x for point in everything], x.log, _LEFT, _WIDTH - _RIGHT)
    up = _scale(values, y.log, _HEIGHT - _BOTTOM, _TOP)
    colours = _colours(points)
    drawn = [*_grid(across, up, x, y)]
    if line:
        drawn.append(_polyline(line, across, up))
    if target:
        drawn += _target(target, up)
    # What is chosen must not lie below others.
    drawn += [_dot(point, across, up, colours) for point in sorted(points, key=lambda point: point.chosen)]
    return join([_svg(drawn), _legend(colours)])


def _svg(drawn: Sequence[Html]) -> Html:
    return element(
        "svg",
        *drawn,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        width=_WIDTH,
        height=_HEIGHT,
        role="img",
    )


def _shows(point: Point, x: Axis, y: Axis) -> bool:
    return all(math.isfinite(value) and (value > 0 or not axis.log) for value, axis in ((point.x, x), (point.y, y)))


def _scale(values: Sequence[float], log: bool, start_px: float, stop_px: float) -> _Scale:
    low, high = min(values), max(values)
    if log:
        factor = max((high / low) ** 0.05, 1.1)
        return _Scale(low / factor, high * factor, True, start_px, stop_px)
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return _Scale(low - margin, high + margin, False, start_px, stop_px)


def _colours(points: Sequence[Point]) -> dict[str, str]:
    """Series to CSS class, in the order they first come."""
    sizes = collections.Counter(point.series for point in points)
    largest = {name for name, _ in sizes.most_common(SERIES)}
    classes = (f"s{number}" for number in range(SERIES))
    return {name: next(classes) if name in largest else "other" for name in sizes}


def _grid(across: _Scale, up: _Scale, x: Axis, y: Axis) -> list[Html]:
    parts = []
    for value in across.ticks():
        here = round(across(value), 1)
        parts.append(element("line", x1=here, x2=here, y1=_TOP, y2=_HEIGHT - _BOTTOM, class_="grid"))
        parts.append(_text(here, _HEIGHT - _BOTTOM + 16, f"{value:.6g}", "middle"))
    for value in up.ticks():
        here = round(up(value), 1)
        parts.append(element("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=here, y2=here, class_="grid"))
        parts.append(_text(_LEFT - 8, here + 4, f"{value:.6g}", "end"))
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 8, x.title, "middle"))
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    parts.append(
        element("text", y.title, x=16, y=middle, text_anchor="middle", transform=f"rotate(-90 16 {middle:.6g})")
    )
    return parts


def _text(x: float, y: float, text: str, anchor: str) -> Html:
    return element("text", text, x=round(x, 1), y=round(y, 1), text_anchor=anchor)


def _target(target: Target, up: _Scale) -> list[Html]:
    here = round(up(target.y), 1)
    return [
        element("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=here, y2=here, class_="target"),
        _text(_WIDTH - _RIGHT, here - 5, target.title, "end"),
    ]


def _polyline(line: Sequence[Point], across: _Scale, up: _Scale) -> Html:
    path = " ".join(f"{across(point.x):.1f},{up(point.y):.1f}" for point in line)
    return element("polyline", points=path, class_="line")


def _dot(point: Point, across: _Scale, up: _Scale, colours: dict[str, str]) -> Html:
    place = {"cx": round(across(point.x), 1), "cy": round(up(point.y), 1)}
    title = [element("title", point.tooltip)] if point.tooltip else []
    dot = element("circle", *title, **place, r=3, class_=colours[point.series])
    return join([element("circle", **place, r=8, class_="chosen"), dot]) if point.chosen else dot


def _legend(colours: dict[str, str]) -> Html:
    named = [(name, colour) for name, colour in colours.items() if name and colour != "other"]
    if "other" in colours.values():
        named.append(("others", "other"))
    if not named:
        return Html("")
    return element("p", *(element("span", name, class_=f"swatch {colour}") for name, colour in named), class_="legend")
