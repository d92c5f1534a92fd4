"""Outlines and details of shoes and boots, seen from the side."""

from __future__ import annotations

import numpy as np

from samples.design import Design, shade
from samples.drawing import Surface, curve, lines

_DARK = (20, 18, 24)


def draw_shoe(surface: Surface, design: Design) -> None:
    """A trainer: patterned upper, coloured sole, laces and a flash on its side."""
    sole, ankle = design.knob(0, 0.1, 0.22), design.knob(1, -0.52, -0.24)
    ground = 0.46
    upper = curve(
        *((-0.88, ground), (-0.94, 0.1, 1), (-0.84, ankle), (-0.6, ankle + 0.14, 1), (-0.28, ankle - 0.03)),
        *((-0.05, 0.0, 1), (0.4, 0.1, 1), (0.92, 0.16, 1), (0.93, ground)),
    )
    surface.cloth(upper)
    toe = curve((0.5, ground), (0.5, 0.18, 1), (0.66, 0.16), (0.95, 0.18, 1), (0.93, ground))
    surface.tint(toe, design.trim, 230 if design.knobs[2] > 0.4 else 60)
    heel = curve(
        (-0.89, ground), (-0.94, 0.1, 1), (-0.85, ankle + 0.04), (-0.72, ankle + 0.1), (-0.66, 0.2, 1), (-0.6, ground)
    )
    surface.tint(heel, design.accent, 220 if design.knobs[3] > 0.4 else 60)
    surface.ramp(upper, (0.0, 0.0, 0.25), vertical=True)
    if design.knobs[4] > 0.35:
        flash = curve(
            (-0.5, 0.3), (0.0, 0.42, 1), (0.26, 0.02), (0.1, 0.26, 1), (-0.5, 0.3 - design.knob(5, 0.06, 0.2))
        )
        surface.part(flash, design.trim)
    surface.emblem(-0.32, 0.2, 0.13)
    for lace in range(4):
        x, y = -0.18 + lace * 0.13, ankle * 0.62 + 0.1 + lace * (0.085 - ankle * 0.12)
        surface.strap(lines((x - 0.04, y + 0.14), (x + 0.12, y - 0.02)), shade(design.accent, 1.35), 0.045)
    bottom = curve(
        *((-0.92, ground - 0.06), (0.96, ground - 0.06), (1.0, ground + sole, 1), (0.8, ground + sole)),
        *((-0.86, ground + sole), (-0.95, ground + sole, 1)),
    )
    surface.part(bottom, shade(design.trim, 1.4) if design.knobs[6] > 0.5 else (236, 234, 228))
    surface.ramp(bottom, (0.0, 0.0, 0.35), vertical=True)
    surface.line(lines((-0.93, ground), (0.96, ground)), design.accent, 0.025)
    surface.line(
        curve((-0.84, ankle), (-0.6, ankle + 0.14, 1), (-0.28, ankle - 0.03))[:9], shade(design.main, 0.5), 0.05
    )


def draw_boot(surface: Surface, design: Design) -> None:
    """A boot: ankle-high to knee-high, flat or heeled, laced or pulled on."""
    top, heel = design.knob(0, -0.92, -0.45), design.knob(1, 0.08, 0.26)
    calf = design.knob(2, 0.1, 0.22)
    ground = 0.78 - heel
    shaft = curve(
        *((-0.6, ground), (-0.62, 0.2, 1), (-0.52, -0.1), (-0.5 - calf, top), (0.02 + calf, top), (0.02, -0.05)),
        *((0.06, 0.16, 1), (0.34, 0.2), (0.8, 0.26, 1), (0.8, ground + heel * 0.4)),
    )
    surface.cloth(shaft)
    surface.ramp(shaft, (0.35, 0.0, 0.05, 0.25))
    surface.ramp(
        curve((-0.4, top + 0.05), (-0.32, top + 0.05), (-0.28, 0.2), (-0.38, 0.2)), (0.0, 0.3, 0.0), (255, 255, 255)
    )
    collar = curve(
        (-0.51 - calf, top - 0.02),
        (0.03 + calf, top - 0.02),
        (0.02 + calf * 0.9, top + 0.12),
        (-0.5 - calf * 0.9, top + 0.12),
    )
    if design.knobs[3] > 0.4:
        surface.part(collar, design.trim)
    surface.part(
        curve((-0.64, ground - 0.03), (0.0, ground - 0.03), (0.3, ground + heel * 0.4), (0.84, ground + heel * 0.35),
              (0.82, 0.82), (0.2, 0.82), (-0.1, ground + 0.1), (-0.22, ground + 0.1), (-0.26, 0.82), (-0.62, 0.82)),
        shade(design.trim, 0.6) if design.knobs[4] > 0.5 else (48, 38, 34),
    )  # fmt: skip
    if design.knobs[5] > 0.5:
        for y in np.arange(top + 0.2, 0.14, 0.12):
            surface.line(lines((-0.12, y), (0.04, y - 0.05)), design.accent, 0.035)
        surface.line(lines((-0.14, top + 0.12), (-0.1, 0.16)), _DARK, 0.012, 120)
    else:
        surface.line(lines((-0.24, top + 0.12), (-0.22, 0.3)), _DARK, 0.014, 120)
        surface.part(curve((-0.56, 0.06), (0.04, 0.04), (0.05, 0.14), (-0.58, 0.16)), design.accent)
        surface.part(curve((-0.3, 0.03), (-0.16, 0.03), (-0.16, 0.17), (-0.3, 0.17)), (206, 184, 120))
    surface.emblem(-0.24, (top - 0.1) / 2, 0.14)
