"""What Pillow loads, in any mode, to eight bits a channel; and transparency laid over white."""

from __future__ import annotations

import numpy as np
from PIL import Image


def as_colour(image: Image.Image) -> Image.Image:
    """The picture in mode L, RGB or, where it has transparency, RGBa (premultiplied)."""
    if image.mode in ("F", "I") or image.mode.startswith("I;16"):
        return _to_eight_bits(image)
    if image.has_transparency_data:
        # Premultiplied: resized so, transparent pixels do not bleed, and white can be put below after resizing.
        return image.convert("RGBA").convert("RGBa")
    if image.mode == "1":
        return image.convert("L")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def over_white(image: Image.Image) -> np.ndarray:
    """uint8 [height, width, 3] of a picture in mode RGB or RGBa; possibly read-only."""
    pixels = np.asarray(image)
    if image.mode == "RGBa":
        below = 255 - pixels[..., 3:].astype(np.uint16)
        pixels = np.minimum(pixels[..., :3] + below, 255).astype(np.uint8)
    return pixels


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Scales deep grey values: 16 bits by their high byte; others so that the least usual white that holds all is 255.

    The usual whites are 1.0 (float only), 255 and 65535; where values go beyond, the brightest is white. Negative
    values and those that are not finite are black.
    """
    values = np.asarray(image)
    if image.mode.startswith("I;16"):
        return Image.fromarray((values >> 8).astype(np.uint8))
    values = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    peak = float(values.max())
    whites = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
    white = next((white for white in whites if peak <= white), peak)
    np.clip(values, 0.0, white, out=values)
    return Image.fromarray(np.rint(values * np.float32(255.0 / white)).astype(np.uint8))
