"""One view of a product: a camera, a background, light, a shadow and a little sensor noise."""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from samples.design import RGB, shade
from samples.drawing import SPRITE_PX, Sprite

Box = tuple[int, int, int, int]  # left, top, right, bottom, px

_BACKDROPS: tuple[RGB, ...] = (
    *((246, 246, 244), (236, 238, 240), (226, 222, 214), (214, 222, 230)),
    *((232, 220, 216), (206, 212, 204), (190, 194, 200), (240, 234, 222)),
)
_WOODS: tuple[RGB, ...] = ((178, 138, 98), (128, 92, 64), (208, 178, 140), (160, 154, 146))
_TILE_PX = 704
_LIGHTS = 12
_SIDES_PX = (400, 601)
_SHADOW_SCALE = 8  # shadows are smooth: an eighth of the picture's size is enough to compute them at
_GRAIN_DEPTH = [min(255, max(0, (value - 118) * 9)) for value in range(256)]
_FAINT = [value // 3 for value in range(256)]


def photograph(sprite: Sprite, rng: np.random.Generator, stands: bool) -> Image.Image:
    """Takes one picture of a product.

    Args:
        sprite: The product, cut out.
        rng: Where this view's choices come from; the same state gives the same picture.
        stands: Whether the product stands upright on a floor, or lies flat.

    Returns:
        RGB, each side 400 to 600 px.
    """
    size = (int(rng.integers(*_SIDES_PX)), int(rng.integers(*_SIDES_PX)))
    product = sprite.layers.getchannel("X").getbbox() or (0, 0, SPRITE_PX, SPRITE_PX)
    camera = _camera(rng, size, product, stands)
    extent = _extent(camera, product, size)
    layers = _warp(sprite.layers, camera, extent)
    silhouette = layers.getchannel("X")
    picture = _background(rng, size, extent[3], stands)
    _cast_shadow(picture, silhouette, extent, rng, stands)
    picture.paste(layers.convert("RGB"), extent, silhouette)
    return _light(picture, rng)


def _camera(rng: np.random.Generator, size: tuple[int, int], product: Box, stands: bool) -> NDArray[np.float64]:
    """The 3 x 3 homography from the sprite's pixels to the picture's: the product fills most of the frame."""
    left, top, right, bottom = product
    turn = math.radians(rng.uniform(-4, 4) if stands else rng.uniform(-22, 22))
    cosine, sine = math.cos(turn), math.sin(turn)
    width = (right - left) * cosine + (bottom - top) * abs(sine)
    height = (bottom - top) * cosine + (right - left) * abs(sine)
    zoom = min(size[0] / width, size[1] / height) * rng.uniform(0.66, 0.9)
    x, y = (size[0] - width * zoom) / 2, (size[1] - height * zoom) / 2
    centre = size[0] / 2 + rng.uniform(-0.5, 0.5) * x, size[1] / 2 + rng.uniform(-0.4, 0.4) * y
    to_origin = np.array([[1, 0, -(left + right) / 2], [0, 1, -(top + bottom) / 2], [0, 0, 1]])
    tilt = np.array([[rng.uniform(0.88, 1.0), 0, 0], [0, 1, 0], [*rng.uniform(-0.00035, 0.00035, 2), 1]])
    place = np.array([[zoom * cosine, -zoom * sine, centre[0]], [zoom * sine, zoom * cosine, centre[1]], [0, 0, 1]])
    return place @ tilt @ to_origin


def _extent(camera: NDArray[np.float64], product: Box, size: tuple[int, int]) -> Box:
    """The part of the picture the product falls in, so that only that part is computed."""
    left, top, right, bottom = product
    corners = camera @ np.array([(left, right, right, left), (top, top, bottom, bottom), (1, 1, 1, 1)])
    low, high = np.floor((corners[:2] / corners[2]).min(axis=1)), np.ceil((corners[:2] / corners[2]).max(axis=1))
    return max(0, int(low[0])), max(0, int(low[1])), min(size[0], int(high[0])), min(size[1], int(high[1]))


def _warp(layers: Image.Image, camera: NDArray[np.float64], extent: Box) -> Image.Image:
    """The sprite as the camera sees it, cut to extent."""
    left, top, right, bottom = extent
    back = np.linalg.inv(camera) @ np.array([[1, 0, left], [0, 1, top], [0, 0, 1]])
    coefficients = (back / back[2, 2]).ravel()[:8].tolist()
    size = (right - left, bottom - top)
    return layers.transform(size, Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BILINEAR)


def _background(rng: np.random.Generator, size: tuple[int, int], foot_px: int, stands: bool) -> Image.Image:
    base = _BACKDROPS[rng.integers(len(_BACKDROPS))]
    kind = rng.integers(4)
    if kind == 0:
        return Image.new("RGB", size, base)
    if kind == 1:
        ramp = Image.new("RGB", (1, 2), base)
        ramp.putpixel((0, 1), shade(base, 0.7))
        return ramp.resize((1, size[1]), Image.Resampling.BILINEAR).resize(size, Image.Resampling.NEAREST)
    wood = _WOODS[rng.integers(len(_WOODS))]
    if stands and kind == 2:
        return _shelf(size, base, wood, max(0, foot_px - int(size[1] * rng.uniform(0.04, 0.12))))
    return _texture(rng, size, wood if kind == 2 else base, planks=kind == 2)


def _shelf(size: tuple[int, int], wall: RGB, wood: RGB, edge_px: int) -> Image.Image:
    picture = Image.new("RGB", size, wall)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, edge_px, *size), fill=wood)
    draw.rectangle((0, edge_px, size[0], edge_px + 2), fill=shade(wood, 1.3))
    front_px = min(size[1] - 1, edge_px + int(size[1] * 0.2))
    draw.rectangle((0, front_px, *size), fill=shade(wood, 0.7))
    return picture


def _texture(rng: np.random.Generator, size: tuple[int, int], colour: RGB, planks: bool) -> Image.Image:
    """Planks or felt: the noise tile, stretched along the grain."""
    left, top = (int(start) for start in rng.integers(0, 200, 2))
    grain = (left, top, left + (24 if planks else 300), top + 300)
    tone = _grain().resize(size, Image.Resampling.BILINEAR, grain)
    picture = Image.new("RGB", size, colour)
    picture.paste(shade(colour, 0.55 if planks else 0.8), (0, 0), tone.point(_GRAIN_DEPTH))
    if planks:
        draw = ImageDraw.Draw(picture)
        for y in range(int(rng.integers(10, 60)), size[1], int(rng.integers(70, 130))):
            draw.line((0, y, size[0], y), shade(colour, 0.5), 2)
    return picture


def _cast_shadow(
    picture: Image.Image, silhouette: Image.Image, extent: Box, rng: np.random.Generator, stands: bool
) -> None:
    strength, blur = rng.uniform(0.25, 0.55), rng.uniform(1.2, 2.6)
    shift_x, shift_y = int(rng.uniform(-14, 14)), 0 if stands else int(rng.uniform(4, 18))
    width, height = (side // _SHADOW_SCALE + 1 for side in silhouette.size)
    margin = 8
    small = Image.new("L", (width + 2 * margin, height + 2 * margin), 0)
    outline = silhouette.reduce(_SHADOW_SCALE)
    small.paste(outline, (margin, margin))
    if stands:
        small = small.point(_FAINT)
        foot, drop = (outline.getbbox() or (0, 0, width, height))[3] + margin - 1, width * 0.07
        floor = Image.new("L", small.size, 0)
        ImageDraw.Draw(floor).ellipse((margin - 1, foot - drop, margin + width, foot + drop), fill=230)
        small = ImageChops.lighter(floor, small)
    small = small.filter(ImageFilter.GaussianBlur(blur)).point([int(value * strength) for value in range(256)])
    mask = small.resize((small.width * _SHADOW_SCALE, small.height * _SHADOW_SCALE), Image.Resampling.BILINEAR)
    start = -margin * _SHADOW_SCALE
    picture.paste((16, 14, 20), (extent[0] + start + shift_x, extent[1] + start + shift_y), mask)


def _light(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Uneven light, an exposure a little off, and noise."""
    left, top = (int(start) for start in rng.integers(0, _TILE_PX - _SIDES_PX[1] + 1, 2))
    tile = _light_tile(int(rng.integers(_LIGHTS)))
    return ImageChops.multiply(picture, tile.crop((left, top, left + picture.width, top + picture.height)))


@functools.cache
def _light_tile(number: int) -> Image.Image:
    """Light falling from one side, with sensor noise: kept because drawing it costs more than all else in a picture."""
    rng = np.random.Generator(np.random.PCG64([number, 1]))
    across = np.linspace(-1, 1, _TILE_PX, dtype=np.float32)
    slope_x, slope_y = rng.uniform(-0.09, 0.09, 2).astype(np.float32)
    light = rng.uniform(0.85, 0.99) + slope_x * across[None, :] + slope_y * across[:, None]
    noise = rng.normal(0, 0.008, (_TILE_PX, _TILE_PX)).astype(np.float32)
    return Image.fromarray((np.clip(light + noise, 0, 1) * 255).astype(np.uint8)).convert("RGB")


@functools.cache
def _grain() -> Image.Image:
    rng = np.random.Generator(np.random.PCG64(0))
    return Image.fromarray(np.clip(rng.normal(128, 3, (_TILE_PX, _TILE_PX)), 0, 255).astype(np.uint8))
