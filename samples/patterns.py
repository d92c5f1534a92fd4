"""What a product's material shows: stripes, checks, dots, motifs."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from samples.design import Design, shade


def paint_pattern(design: Design, side_px: int) -> Image.Image:
    """The item's material as a square RGB picture; prints and logos are left to the shapes that bear them."""
    cloth = Image.new("RGB", (side_px, side_px), design.main)
    draw = ImageDraw.Draw(cloth, "RGBA")
    pitch = int(side_px * design.knob(7, 0.06, 0.13))
    width = int(pitch * design.knob(6, 0.3, 0.6))
    if design.pattern == "striped":
        for row, top in enumerate(range(0, side_px, pitch)):
            thin = row % 2 and design.knobs[5] > 0.5
            draw.rectangle((0, top, side_px, top + width // (3 if thin else 1)), design.trim if thin else design.accent)
    elif design.pattern == "pinstriped":
        for left in range(0, side_px, pitch // 2):
            draw.rectangle((left, 0, left + max(2, width // 5), side_px), design.accent)
    elif design.pattern == "checked":
        for start in range(0, side_px, pitch):
            draw.rectangle((0, start, side_px, start + width), (*design.accent, 130))
            draw.rectangle((start, 0, start + width, side_px), (*design.accent, 130))
            draw.line((start + width, 0, start + width, side_px), (*design.trim, 160), 3)
    elif design.pattern == "dotted":
        _scatter(draw, side_px, int(pitch * 0.9), motif_outline("dot") * width * 0.42, design.accent)
    elif design.pattern == "scattered":
        _scatter(draw, side_px, int(pitch * 1.5), motif_outline(design.motif) * pitch * 0.48, design.accent)
    elif design.pattern == "colour-block":
        edge = int(side_px * design.knob(5, 0.42, 0.6))
        lean = int(side_px * design.knob(6, -0.25, 0.25))
        draw.polygon([(0, edge), (side_px, edge + lean), (side_px, side_px), (0, side_px)], design.accent)
        draw.line([(0, edge), (side_px, edge + lean)], shade(design.trim, 0.95), side_px // 30)
    return cloth


@functools.lru_cache(maxsize=16)
def motif_outline(motif: str) -> NDArray[np.float64]:
    """A motif's outline, [n, 2], within -1 to 1."""
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    if motif == "star":
        turn = turn[::4] - np.pi / 2
        reach = np.where(np.arange(turn.size) % 2, 0.42, 1.0)
    elif motif == "flower":
        reach = 0.72 + 0.28 * np.cos(5 * turn)
    elif motif == "leaf":
        return np.stack([0.55 * np.sin(turn) * np.abs(np.sin(turn)), -np.cos(turn)], axis=1)
    elif motif == "heart":
        beat = np.stack([16 * np.sin(turn) ** 3, -_heart_height(turn)], axis=1)
        return beat / 17
    elif motif == "bolt":
        return np.array(
            [(0.15, -1.0), (-0.6, 0.15), (-0.05, 0.15), (-0.3, 1.0), (0.6, -0.25), (0.05, -0.25), (0.5, -1.0)]
        )
    elif motif in ("ring", "dot"):
        reach = np.ones_like(turn)
    else:
        raise ValueError(f"no motif is called {motif!r}")
    return np.stack([reach * np.cos(turn), reach * np.sin(turn)], axis=1)


def _heart_height(turn: NDArray[np.float64]) -> NDArray[np.float64]:
    return 13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn)


def _scatter(
    draw: ImageDraw.ImageDraw, side_px: int, pitch: int, outline: NDArray[np.float64], colour: tuple[int, int, int]
) -> None:
    points = outline[::2] if len(outline) >= 40 else outline
    for row, y in enumerate(range(0, side_px + pitch, pitch)):
        for x in range(row % 2 * pitch // 2, side_px + pitch, pitch):
            draw.polygon((points + np.array((x, y))).ravel().tolist(), fill=colour)
