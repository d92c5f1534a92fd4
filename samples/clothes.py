"""Outlines and details of things to wear."""

from __future__ import annotations

import numpy as np

from samples.design import Design, shade
from samples.drawing import Surface, curve, ellipse, lines, mirrored

_DARK = (20, 18, 24)


def draw_t_shirt(surface: Surface, design: Design) -> None:
    """A t-shirt or a long-sleeved shirt, with a round or a pointed neck."""
    waist, hem = design.knob(0, 0.42, 0.54), design.knob(1, 0.62, 0.86)
    long = design.knobs[2] > 0.72
    neck = design.knob(3, 0.08, 0.3)
    cuff = ((0.9, 0.52), (0.74, 0.56)) if long else ((0.92, -0.14), (0.72, 0.0))
    surface.part(ellipse(0, -0.66, 0.2, 0.08), shade(design.main, 0.55))
    collar = ((0, -0.68 + neck), (0.05 if design.knobs[4] > 0.6 else 0.2, -0.67 + neck, 1), (0.2, -0.7))
    shirt = (*collar, (0.3, -0.67), (0.52, -0.6), (0.68, -0.55, 1), *cuff)
    surface.cloth(mirrored(*shirt, (waist, -0.24), (waist - 0.02, 0.2, 1), (waist + 0.02, hem), (0, hem + 0.03)))
    for side in (-1, 1):
        (outer_x, outer_y), (inner_x, inner_y) = cuff
        if design.knobs[5] > 0.45:
            band = [
                (outer_x, outer_y),
                (inner_x, inner_y),
                (inner_x, inner_y - 0.07),
                (outer_x - 0.03, outer_y - 0.06),
            ]
            surface.part(lines(*band) * (side, 1), design.trim)
        seam = curve((0.5, -0.6), (0.42, -0.4, 1), (waist, -0.24))[:9] * (side, 1)
        surface.line(seam, _DARK, 0.01, 70)
    edge = mirrored(*collar)[:9]
    surface.line(edge, design.trim, 0.05)
    surface.line(edge * (-1, 1), design.trim, 0.05)
    surface.line(lines((-waist, hem - 0.05), (waist, hem - 0.05)), _DARK, 0.008, 60)
    surface.emblem(0, -0.05, 0.24)


def draw_hoodie(surface: Surface, design: Design) -> None:
    """A hooded sweater with a pocket, and a zip on some."""
    waist, hem = design.knob(0, 0.44, 0.54), design.knob(1, 0.6, 0.76)
    reach = design.knob(2, 0.3, 0.5)
    surface.cloth(mirrored((0, -0.94), (0.3, -0.96, 1), (0.36, -0.5), (0, -0.4)))
    surface.part(ellipse(0, -0.66, 0.2, 0.2), shade(design.trim, 0.6))
    body = (
        (0, -0.44),
        (0.16, -0.46, 1),
        (0.28, -0.66),
        (0.5, -0.58),
        (0.66, -0.5, 1),
        (0.92, reach),
        (0.76, reach + 0.05),
    )
    surface.cloth(mirrored(*body, (waist, -0.14), (waist + 0.02, 0.2, 1), (waist, hem), (0, hem)))
    surface.part(mirrored((0, hem - 0.02), (waist, hem - 0.02), (waist - 0.03, hem + 0.1), (0, hem + 0.1)), design.trim)
    pocket = mirrored((0, 0.26), (0.22, 0.26), (0.34, 0.52), (0.34, hem - 0.02), (0, hem - 0.02))
    surface.tint(pocket, _DARK, 50)
    surface.line(pocket, _DARK, 0.01, 90)
    for side in (-1, 1):
        cuff = [(0.92, reach), (0.76, reach + 0.05), (0.79, reach + 0.15), (0.92, reach + 0.1)]
        surface.part(lines(*cuff) * (side, 1), design.trim)
        surface.line(curve((0.48, -0.58), (0.4, -0.35, 1), (waist, -0.14))[:9] * (side, 1), _DARK, 0.01, 80)
        surface.line(lines((0.1, -0.47), (0.09, -0.47 + design.knob(3, 0.2, 0.4))) * (side, 1), design.accent, 0.022)
    if design.knobs[4] > 0.5:
        surface.line(lines((0, -0.43), (0, hem + 0.1)), _DARK, 0.03, 150)
        surface.line(lines((0, -0.43), (0, hem + 0.1)), (200, 200, 205), 0.012)
    surface.emblem(0, -0.08, 0.2)


def draw_trousers(surface: Surface, design: Design) -> None:
    """Trousers or shorts, from slim to flared."""
    waist, flare = design.knob(0, 0.3, 0.38), design.knob(1, 0.15, 0.34)
    hem = 0.12 if design.knobs[2] > 0.75 else design.knob(2, 0.7, 0.95)
    knee = (waist + 0.16 + flare) / 2 + 0.06
    leg = [(waist + 0.1, -0.4, 1), (knee, 0.1 if hem > 0.5 else -0.2, 1), (0.14 + flare * 1.2, hem)]
    surface.cloth(mirrored((0, -0.88), (waist, -0.88), *leg, (0.1, hem + 0.02), (0.04, -0.2), (0, -0.24)))
    surface.part(mirrored((0, -0.94), (waist - 0.01, -0.94), (waist + 0.02, -0.83), (0, -0.82)), design.trim)
    surface.line(lines((0.0, -0.82), (0.0, -0.24)), _DARK, 0.012, 120)
    surface.line(curve((0, -0.5), (0.08, -0.52, 1), (0.09, -0.8))[:9], _DARK, 0.01, 90)
    surface.part(ellipse(0, -0.88, 0.03, 0.03), shade(design.accent, 0.9))
    for side in (-1, 1):
        surface.line(
            curve((waist * 0.45, -0.82), (waist * 0.5, -0.62, 1), (waist + 0.05, -0.6))[:9] * (side, 1),
            _DARK,
            0.012,
            130,
        )
        crease = lines((waist * 0.6, -0.5), (0.1 + flare * 0.6, hem)) * (side, 1)
        surface.line(crease, _DARK, 0.014, 45)
        if design.knobs[3] > 0.5:
            ends = lines(
                (0.1, hem - 0.06), (0.1, hem + 0.02), (0.14 + flare * 1.2, hem), (0.14 + flare * 1.2, hem - 0.08)
            )
            surface.part(ends * (side, 1), design.trim)
        surface.emblem(side * waist * 0.6, -0.3, 0.09)


def draw_dress(surface: Surface, design: Design) -> None:
    """A dress with straps or short sleeves, a belt and a skirt."""
    waist, flare = design.knob(0, 0.2, 0.3), design.knob(1, 0.4, 0.78)
    hem, belt = design.knob(2, 0.5, 0.92), design.knob(3, -0.3, -0.12)
    skirt = ((waist, belt), (flare * 0.55, 0.1, 1), (flare, hem), (flare * 0.5, hem + 0.07, 1), (0, hem + 0.05))
    if design.knobs[4] > 0.5:
        for side in (-1, 1):
            surface.cloth(lines((0.2, -0.9), (0.34, -0.86), (0.5, -0.56), (0.34, -0.5), (0.22, -0.6)) * (side, 1))
        top: tuple[tuple[float, ...], ...] = ((0, -0.74), (0.16, -0.74, 1), (0.2, -0.91), (0.31, -0.86), (0.29, -0.55))
    else:
        for side in (-1, 1):
            surface.strap(lines((0.2, -0.62), (0.16, -0.95)) * (side, 1), design.trim, 0.045)
        top = ((0, -0.6), (0.1, -0.6, 1), (0.22, -0.7), (0.3, -0.55))
    surface.cloth(mirrored(*top, (0.26, -0.4, 1), *skirt))
    surface.part(
        mirrored((0, belt - 0.05), (waist + 0.01, belt - 0.05), (waist + 0.02, belt + 0.04), (0, belt + 0.05)),
        design.trim,
    )
    for fold in np.linspace(-0.75, 0.75, 5 + int(design.knobs[5] * 3)):
        crease = lines((fold * waist, belt + 0.08), (fold * flare, hem))
        surface.line(crease, _DARK, 0.016, 50)
    surface.emblem(0, 0.3, 0.17)


def draw_cap(surface: Surface, design: Design) -> None:
    """A baseball cap, seen from the front and a little to one side."""
    height, reach = design.knob(0, -0.62, -0.42), design.knob(1, 0.72, 0.95)
    crown = curve(
        (-0.62, 0.2), (-0.66, height - 0.1, 1), (0, height - 0.12, 1), (0.6, height, 1), (0.56, 0.24), (0, 0.05, 1)
    )
    surface.cloth(crown)
    surface.ramp(crown, (0.35, 0.0, 0.0, 0.4))
    for bend in (-0.34, 0.36):
        surface.line(
            curve((0.0, height + 0.06), (bend * 1.3, height + 0.1, 1), (bend * 1.2, 0.14))[:9], _DARK, 0.012, 110
        )
    surface.part(ellipse(0.0, height + 0.02, 0.06, 0.035), design.trim)
    brim = curve(
        (-0.62, 0.18), (0, -0.04, 1), (0.58, 0.2), (reach, 0.46, 1), (reach - 0.2, 0.62), (0.1, 0.3, 1), (-0.66, 0.36)
    )
    surface.part(brim, design.trim if design.knobs[2] > 0.4 else shade(design.main, 0.85))
    surface.ramp(brim, (0.0, 0.1, 0.45), vertical=True)
    for x, y in ((-0.28, height + 0.24), (0.28, height + 0.26)):
        surface.line(ellipse(x, y, 0.025, 0.025), _DARK, 0.012, 140)
    surface.emblem(0, -0.1, 0.2, always=design.knobs[3] > 0.3)
