"""Small pictures for reports, made by the one decoder: what can be embedded can also be shown."""

from __future__ import annotations

import base64
import dataclasses
import io

import numpy as np
from PIL import Image

from encoder.decode import DecodeOptions, decode_picture, decode_shrunk

_QUALITY = 80


@dataclasses.dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small picture.

    Attributes:
        jpeg: The encoded picture, without metadata.
        width: Width of the original in pixels, turned upright.
        height: Height of the original in pixels, turned upright.
    """

    jpeg: bytes
    width: int
    height: int


def make_thumbnail(data: bytes, longest_px: int, max_pixels: int) -> Thumbnail:
    """The whole picture, upright, on white, in its own shape.

    Args:
        data: The encoded file, of any format that `decode_picture` takes.
        longest_px: The longer side; a smaller picture keeps its size.
        max_pixels: Larger pictures are rejected.

    Raises:
        Rejected: As `decode_picture` does.
        ValueError: `longest_px` or `max_pixels` is below 1.
    """
    picture = decode_shrunk(data, longest_px, max_pixels)
    return Thumbnail(_as_jpeg(picture.pixels), picture.width, picture.height)


def thumbnail_data_uri(data: bytes, side_px: int = 160) -> str:
    """A picture as a square JPEG in a data URI, about 5 kB at 160 px; the whole picture, upright, on white.

    Args:
        data: The encoded file, of any format that `decode_picture` takes.
        side_px: Width and height.

    Raises:
        Rejected: As `decode_picture` does.
        ValueError: `side_px` is below 1.
    """
    picture = decode_picture(data, DecodeOptions(image_size=side_px, resize="pad"))
    return "data:image/jpeg;base64," + base64.b64encode(_as_jpeg(picture.pixels)).decode("ascii")


def _as_jpeg(pixels: np.ndarray) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "JPEG", quality=_QUALITY, optimize=True)
    return encoded.getvalue()
