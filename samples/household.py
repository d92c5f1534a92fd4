"""Outlines and details of things for the house and the desk."""

from __future__ import annotations

import numpy as np

from samples.design import Design, shade
from samples.drawing import Surface, box, curve, ellipse, lines, mirrored
from samples.patterns import motif_outline

_DARK = (20, 18, 24)
_LIGHT = (255, 255, 255)
_ROUND = (0.5, 0.18, 0.0, 0.0, 0.1, 0.28, 0.55)
_GLOSS = (0.0, 0.0, 0.45, 0.1, 0.0, 0.0, 0.0, 0.0)


def draw_mug(surface: Surface, design: Design) -> None:
    """A mug, straight or tapered, with its handle on the right."""
    width, height, taper = design.knob(0, 0.4, 0.58), design.knob(1, 0.48, 0.72), design.knob(2, 0.72, 1.05)
    foot = width * taper
    grip = design.knob(3, 0.5, 0.85) * height
    handle = ellipse(min(width, foot) * 0.8 - 0.1, 0.02, 0.3 + abs(width - foot) * 0.5, grip * 0.85, -105, 105)
    handle[:, 0] += (foot - width) * 0.4 * handle[:, 1]  # follows the slope of the wall
    surface.strap(handle, shade(design.trim if design.knobs[4] > 0.5 else design.main, 0.8), 0.12)
    surface.line(handle * (0.985, 0.985), _LIGHT, 0.025, 90)
    body = curve(
        *((-width - 0.1, -height), (width - 0.1, -height), (foot - 0.1, height)),
        *(
            (foot - 0.14, height + 0.1, 1),
            (-0.1, height + 0.1, 1),
            (-foot - 0.06, height + 0.1, 1),
            (-foot - 0.1, height),
        ),
    )
    surface.cloth(body)
    surface.emblem(-0.1, 0.05, width * 0.55)
    if design.knobs[5] > 0.6:
        surface.tint(box(-foot - 0.1, height - 0.1, foot - 0.1, height), design.trim, 255)
    surface.ramp(body, _ROUND)
    surface.ramp(body, _GLOSS, _LIGHT)
    surface.part(ellipse(-0.1, -height, width, width * 0.2), shade(design.main, 1.25))
    inside = ellipse(-0.1, -height + 0.01, width * 0.93, width * 0.16)
    surface.part(inside, shade(design.trim, 0.8))
    surface.ramp(inside, (0.6, 0.2, 0.0))


def draw_bottle(surface: Surface, design: Design) -> None:
    """A bottle: flask to wine bottle, with a cap and, unless its body is patterned, a label."""
    width, shoulder = design.knob(0, 0.2, 0.4), design.knob(1, -0.45, -0.1)
    neck, top = width * design.knob(2, 0.32, 0.7), design.knob(3, -0.86, -0.68)
    slope = shoulder - design.knob(4, 0.05, 0.3)
    body = mirrored(
        *((0, top), (neck, top), (neck, slope), (width, slope + 0.02, 1), (width, shoulder + 0.05)),
        *((width, 0.84), (width * 0.95, 0.93, 1), (0, 0.94)),
    )
    surface.cloth(body)
    if design.pattern in ("plain", "print", "logo"):
        upper, lower = shoulder + 0.16, design.knob(5, 0.5, 0.72)
        label = box(-width, upper, width, lower)
        surface.tint(label, shade(design.trim, 1.3), 255)
        surface.tint(box(-width, upper + 0.03, width, upper + 0.06), design.accent, 255)
        surface.tint(box(-width, lower - 0.06, width, lower - 0.03), design.accent, 255)
        middle = (upper + lower) / 2
        surface.tint(motif_outline(design.motif) * width * 0.4 + (0, middle - 0.12), shade(design.main, 0.9), 255)
        surface.text(0, middle + 0.18, design.word, width * 0.4, _DARK)
    surface.ramp(body, _ROUND)
    surface.ramp(body, _GLOSS, _LIGHT)
    cap = box(-neck - 0.025, top - 0.12, neck + 0.025, top + design.knob(6, 0.0, 0.08))
    surface.part(cap, design.trim)
    surface.ramp(cap, _ROUND)
    surface.ramp(cap, _GLOSS, _LIGHT)


def draw_carton(surface: Surface, design: Design) -> None:
    """A box in three-quarter view, with a label, a strip of tape and a few words."""
    width, height, depth = design.knob(0, 0.4, 0.68), design.knob(1, 0.3, 0.75), design.knob(2, 0.2, 0.42)
    left, right, rise = -width - depth / 2, width - depth / 2, depth * 0.55
    top, bottom = -height + rise / 2, height + rise / 2
    front = box(left, top, right, bottom)
    side = lines((right, top), (right + depth, top - rise), (right + depth, bottom - rise), (right, bottom))
    lid = lines((left, top), (left + depth, top - rise), (right + depth, top - rise), (right, top))
    for face, darkness in ((front, 0), (side, 105), (lid, 0)):
        surface.cloth(face)
        surface.tint(face, _DARK, darkness)
    surface.tint(lid, _LIGHT, 80)
    middle = (left + right) / 2
    if design.knobs[3] > 0.4:
        tape = np.array(
            [
                (middle - 0.08, top),
                (middle - 0.08 + depth, top - rise),
                (middle + 0.08 + depth, top - rise),
                (middle + 0.08, top),
            ]
        )
        surface.tint(tape, design.trim, 230)
        surface.tint(box(middle - 0.08, top, middle + 0.08, top + 0.16), design.trim, 230)
    high = min(height * 0.62, 0.34)
    label = box(
        middle - width * 0.72, bottom - high - height * 0.5, middle + width * 0.72, bottom - height * 0.22, 0.03
    )
    surface.tint(label, shade(design.trim, 1.5), 255)
    centre = float(label[:, 1].mean())
    surface.text(middle, centre - 0.04, design.word, width * 0.42, _DARK)
    surface.tint(box(middle - width * 0.5, centre + 0.09, middle + width * 0.5, centre + 0.12), design.accent, 255)
    surface.ramp(front, (0.0, 0.0, 0.18), vertical=True)


def draw_bag(surface: Surface, design: Design) -> None:
    """A tote or a handbag, with two handles and, on some, a flap."""
    width, foot = design.knob(0, 0.46, 0.66), design.knob(1, 0.5, 0.76)
    top, bottom = design.knob(2, -0.38, -0.08), design.knob(3, 0.64, 0.86)
    loop, spread = design.knob(4, 0.4, 0.58), width * 0.5
    for lift, factor in ((0.04, 0.55), (0.0, 0.85)):
        handle = ellipse(0, top + 0.05, spread, loop + lift, 180, 360)
        surface.strap(handle + np.array((0.03 * (lift > 0), 0)), shade(design.trim, factor), 0.075)
    body = mirrored(
        (0, top), (width, top), (foot + 0.02, bottom - 0.1), (foot, bottom, 1), (foot - 0.1, bottom), (0, bottom)
    )
    surface.cloth(body)
    surface.ramp(body, (0.3, 0.0, 0.0, 0.06, 0.35))
    if design.knobs[5] > 0.6:
        flap = mirrored((0, top), (width, top), (width * 0.95, top + 0.5, 1), (0, top + 0.52))
        surface.part(flap, design.trim)
        surface.line(flap, _DARK, 0.014, 110)
        surface.part(ellipse(0, top + 0.46, 0.07, 0.05), (212, 184, 96))
    else:
        surface.tint(mirrored((0, top), (width, top), (width + 0.01, top + 0.1), (0, top + 0.1)), design.trim, 255)
        for side in (-1, 1):
            surface.part(
                box(side * spread - 0.06, top - 0.02, side * spread + 0.06, top + 0.2, 0.02), shade(design.trim, 0.8)
            )
        surface.emblem(0, (top + bottom) / 2 + 0.05, 0.25)
    surface.line(lines((-foot, bottom - 0.1), (foot, bottom - 0.1)), _DARK, 0.012, 80)


def draw_lamp(surface: Surface, design: Design) -> None:
    """A table lamp: patterned shade, stem, base."""
    top, rim, wide = design.knob(0, 0.2, 0.44), design.knob(1, 0.5, 0.74), design.knob(2, -0.1, 0.12)
    base, stem = design.knob(3, 0.26, 0.44), design.knob(4, 0.035, 0.07)
    post = box(-stem, wide, stem, 0.84)
    surface.part(post, design.trim)
    surface.ramp(post, _ROUND)
    if design.knobs[5] > 0.45:
        belly = ellipse(0, (wide + 0.9) / 2 + 0.04, base * 0.8, (0.9 - wide) / 2 - 0.04)
        surface.part(belly, design.trim)
        surface.ramp(belly, _ROUND)
        surface.ramp(belly, _GLOSS, _LIGHT)
    foot = mirrored((0, 0.8), (base * 0.9, 0.82), (base, 0.92), (base * 0.9, 0.95, 1), (0, 0.95))
    surface.part(foot, shade(design.trim, 0.8))
    surface.ramp(foot, _ROUND)
    hood = mirrored((0, -0.82), (top, -0.82), (rim, wide), (rim * 0.6, wide + 0.07, 1), (0, wide + 0.06))
    surface.cloth(hood)
    surface.emblem(0, (wide - 0.8) / 2, 0.2)
    surface.ramp(hood, (0.4, 0.12, 0.0, 0.0, 0.12, 0.45))
    surface.ramp(hood, (0.0, 0.25, 0.5, 0.25, 0.0), (255, 240, 200))
    surface.part(ellipse(0, -0.82, top, 0.05), shade(design.main, 0.6))


def draw_chair(surface: Surface, design: Design) -> None:
    """A chair: upholstered seat and back on four legs, seen a little from the side."""
    width, back = design.knob(0, 0.36, 0.52), design.knob(1, -0.94, -0.66)
    seat, depth = design.knob(2, 0.1, 0.24), design.knob(3, 0.14, 0.28)
    wood = design.trim if design.knobs[4] > 0.4 else (150, 104, 62)
    splay, leg = design.knob(5, 0.0, 0.16), design.knob(6, 0.05, 0.09)
    for x, factor, reach in ((-0.75, 0.55, 0.76), (0.8, 0.55, 0.76), (-0.95, 0.95, 0.95), (0.95, 0.8, 0.95)):
        foot = x * width + (splay if x > 0 else -splay)
        surface.strap(lines((x * width, seat), (foot, reach)), shade(wood, factor), leg)
    for side in (-1, 1):
        surface.strap(lines((side * width * 0.82, back + 0.2), (side * width * 0.82, seat)), shade(wood, 0.7), leg)
    rest = box(-width * 0.95, back, width * 0.95, seat - design.knob(7, 0.1, 0.3), 0.14)
    surface.cloth(rest)
    surface.ramp(rest, (0.25, 0.0, 0.0, 0.3))
    surface.emblem(0, float(rest[:, 1].mean()), 0.18)
    cushion = curve(
        *((-width * 0.86, seat - depth * 0.5), (width * 0.86, seat - depth * 0.5), (width * 1.06, seat + depth * 0.4)),
        *((width, seat + depth, 1), (-width, seat + depth, 1), (-width * 1.06, seat + depth * 0.4)),
    )
    surface.cloth(cushion)
    surface.ramp(cushion, (0.0, 0.0, 0.0, 0.5), vertical=True)
    surface.line(cushion[:2], _DARK, 0.02, 110)


def draw_badge(surface: Surface, design: Design) -> None:
    """A badge with a word and a motif: round, six-sided, a shield or scalloped."""
    kind, size = int(design.knobs[0] * 4), design.knob(1, 0.66, 0.86)
    turn = np.linspace(0, 2 * np.pi, 144, endpoint=False)
    if kind == 2:
        edge = mirrored((0, -1.0), (0.5, -0.9, 1), (0.85, -0.95), (0.95, 0.4, 1), (0, 1.0))
    else:
        reach = (1.0, 1.0, 0.0, 0.95 + 0.05 * np.cos(16 * turn))[kind]
        turn = turn if kind != 1 else turn[::24] + np.pi / 6
        edge = np.stack([np.cos(turn), np.sin(turn)], axis=1) * np.broadcast_to(reach, turn.shape)[:, None]
    surface.part(edge * size, design.trim)
    surface.part(edge * size * 0.93, shade(design.accent, 0.9))
    surface.cloth(edge * size * 0.84)
    if design.knobs[2] > 0.35:
        surface.tint(motif_outline(design.motif) * size * 0.3 + (0, -size * 0.4), design.accent, 255)
    band = mirrored((0, 0.02), (size * 1.08, 0.02), (size * 0.98, 0.17), (size * 1.08, 0.32), (0, 0.32))
    surface.part(band, design.trim)
    surface.line(band[[0, 1]] * (1, 1), _DARK, 0.012, 60)
    surface.text(0, 0.17, design.word, size * 0.36, design.main)
    surface.ramp(edge * size, (0.0, 0.0, 0.22), vertical=True)
    surface.ramp(edge * size, (0.28, 0.05, 0.0), _LIGHT, vertical=True)
