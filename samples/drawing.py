"""A drawing surface for one product: outlines in, an anti-aliased picture and its silhouette out."""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

from samples.design import RGB, Design, shade
from samples.patterns import motif_outline, paint_pattern

Outline = NDArray[np.float64]  # [n, 2]; x to the right and y down, -1 to 1 across the surface
SPRITE_PX = 448
_SURFACE_PX = 2 * SPRITE_PX  # twice as large, then halved: the edges come out smooth
_CURVE_STEPS = 8
_EDGE_SHADE = [min(255, 125 + value * 9 // 16) for value in range(256)]


@dataclasses.dataclass(frozen=True, slots=True)
class Sprite:
    """A drawn product, cut out.

    Attributes:
        layers: RGBX, SPRITE_PX square. X is the silhouette, 255 inside. It is not an alpha channel, so that one
            transform takes all four without premultiplying; outside, the colour suits blurred edges.
    """

    layers: Image.Image


def curve(*points: tuple[float, ...]) -> Outline:
    """A closed outline through (x, y) corners; an (x, y, 1) is a quadratic Bézier control, as in TrueType."""
    nodes: list[tuple[float, ...]] = []
    for here, after in zip(points, points[1:] + points[:1], strict=True):
        nodes.append(here)
        if len(here) == 3 and len(after) == 3:
            nodes.append(((here[0] + after[0]) / 2, (here[1] + after[1]) / 2))
    first = next(index for index, node in enumerate(nodes) if len(node) == 2)
    nodes = nodes[first:] + nodes[: first + 1]
    steps = np.linspace(0, 1, _CURVE_STEPS)[1:, None]
    pieces = [np.array([nodes[0]])]
    for before, node, after in zip(nodes, nodes[1:], nodes[2:] + nodes[-1:], strict=False):
        if len(node) == 3:
            start, control, end = np.array(before[:2]), np.array(node[:2]), np.array(after[:2])
            pieces.append((1 - steps) ** 2 * start + 2 * steps * (1 - steps) * control + steps**2 * end)
        else:
            pieces.append(np.array([node]))
    return np.concatenate(pieces)


def lines(*points: tuple[float, float]) -> Outline:
    """Straight lines from point to point."""
    return np.array(points, np.float64)


def mirrored(*right: tuple[float, ...]) -> Outline:
    """A closed outline symmetric about x = 0, given its right half from top to bottom."""
    return curve(*right, *((-x, *rest) for x, *rest in reversed(right) if x != 0))


def ellipse(x: float, y: float, width: float, height: float, start: float = 0, end: float = 360) -> Outline:
    """An ellipse, or an arc of it, by centre, half-axes and degrees clockwise from the right."""
    turn = np.radians(np.linspace(start, end, 49))
    return np.stack([x + width * np.cos(turn), y + height * np.sin(turn)], axis=1)


def box(left: float, top: float, right: float, bottom: float, radius: float = 0.0) -> Outline:
    """A rectangle, its corners rounded where a radius is given."""
    if radius == 0:
        return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    corners = ((right, bottom, 0), (left, bottom, 90), (left, top, 180), (right, top, 270))
    arcs = []
    for x, y, start in corners:
        centre_x, centre_y = x - math.copysign(radius, x - left - 1e-9), y - math.copysign(radius, y - top - 1e-9)
        arcs.append(ellipse(centre_x, centre_y, radius, radius, start, start + 90)[::6])
    return np.concatenate(arcs)


class Surface:
    """Where one product is drawn. Later parts lie over earlier ones."""

    def __init__(self, design: Design) -> None:
        self._design = design
        size = (_SURFACE_PX, _SURFACE_PX)
        self._picture = Image.new("RGB", size, shade(design.main, 0.7))
        self._silhouette = Image.new("L", size, 0)
        self._draw = ImageDraw.Draw(self._picture, "RGBA")
        self._cut = ImageDraw.Draw(self._silhouette)

    @functools.cached_property
    def _cloth(self) -> Image.Image:
        return paint_pattern(self._design, _SURFACE_PX)

    def part(self, outline: Outline, colour: RGB) -> None:
        """Adds a part in one colour."""
        points = _pixels(outline)
        self._draw.polygon(points, fill=colour)
        self._cut.polygon(points, fill=255)

    def cloth(self, outline: Outline) -> None:
        """Adds a part that shows the item's pattern."""
        points = _pixels(outline)
        area, mask = _mask(points)
        self._picture.paste(self._cloth.crop(area), area, mask)
        self._cut.polygon(points, fill=255)

    def tint(self, outline: Outline, colour: RGB, alpha: int) -> None:
        """Lays a translucent colour (alpha 0 to 255) over what is there; adds nothing to the silhouette."""
        self._draw.polygon(_pixels(outline), fill=(*colour, alpha))

    def ramp(self, outline: Outline, stops: tuple[float, ...], colour: RGB = (0, 0, 0), vertical: bool = False) -> None:
        """Lays a colour over a part, its alpha (0 to 1) running evenly through the stops: how round things shade."""
        area, mask = _mask(_pixels(outline))
        length = mask.height if vertical else mask.width
        values = np.interp(np.linspace(0, 1, length), np.linspace(0, 1, len(stops)), stops)
        strip = (values * 255).astype(np.uint8)[:, None]
        shading = Image.fromarray(strip if vertical else strip.T).resize(mask.size)
        self._picture.paste(colour, area, ImageChops.multiply(mask, shading))

    def line(self, outline: Outline, colour: RGB, width: float = 0.012, alpha: int = 255) -> None:
        """Draws an open line on the product."""
        self._draw.line(_pixels(outline), fill=(*colour, alpha), width=_length(width), joint="curve")

    def strap(self, outline: Outline, colour: RGB, width: float) -> None:
        """Adds an open line that is itself a part: a handle, a lace, a leg."""
        points = _pixels(outline)
        self._draw.line(points, fill=colour, width=_length(width), joint="curve")
        self._cut.line(points, fill=255, width=_length(width), joint="curve")

    def text(self, x: float, y: float, words: str, height: float, colour: RGB) -> None:
        """Writes words centred on a point; height is that of the letters' box."""
        self._draw.text(_pixels(np.array([[x, y]]))[0], words, colour, _font(_length(height) // 8 * 8), anchor="mm")

    def emblem(self, x: float, y: float, size: float, always: bool = False) -> None:
        """Puts the item's print or logo at a point, if its pattern is one (or always)."""
        design = self._design
        if design.pattern == "print" or (always and design.pattern != "logo"):
            self._draw.polygon(_pixels(motif_outline(design.motif) * size + (x, y)), fill=design.accent)
            self._draw.polygon(_pixels(motif_outline(design.motif) * size * 0.45 + (x, y)), fill=design.trim)
        elif design.pattern == "logo":
            self.text(x, y, design.word, size * min(1.1, 4.4 / len(design.word)), design.accent)

    def finish(self, softness: float) -> Sprite:
        """Halves the surface and rounds it off: edges darker, and folds as deep as softness (0 to 1) says."""
        picture, silhouette = self._picture.reduce(2), self._silhouette.reduce(2)
        depth = silhouette.reduce(8).filter(ImageFilter.GaussianBlur(2)).point(_EDGE_SHADE)
        if softness:
            rng = np.random.Generator(np.random.PCG64(self._design.number))
            folds = Image.fromarray((255 - rng.random((9, 7)) * 70 * softness).astype(np.uint8))
            depth = ImageChops.multiply(depth, folds.resize(depth.size, Image.Resampling.BICUBIC))
        depth = depth.resize(picture.size, Image.Resampling.BILINEAR)
        picture = ImageChops.multiply(picture, Image.merge("RGB", (depth, depth, depth)))
        return Sprite(Image.merge("RGBX", (*picture.split(), silhouette)))


def _pixels(outline: Outline) -> list[tuple[float, float]]:
    return [(x, y) for x, y in ((outline + 1) * (_SURFACE_PX / 2)).tolist()]


def _length(units: float) -> int:
    return max(1, round(units * _SURFACE_PX / 2))


def _mask(points: list[tuple[float, float]]) -> tuple[tuple[int, int, int, int], Image.Image]:
    xs, ys = zip(*points, strict=True)
    left, top = max(0, int(min(xs))), max(0, int(min(ys)))
    right, bottom = min(_SURFACE_PX, int(max(xs)) + 1), min(_SURFACE_PX, int(max(ys)) + 1)
    mask = Image.new("L", (right - left, bottom - top), 0)
    ImageDraw.Draw(mask).polygon([(x - left, y - top) for x, y in points], fill=255)
    return (left, top, right, bottom), mask


@functools.lru_cache(maxsize=64)
def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(max(8, size_px))
