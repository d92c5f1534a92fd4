"""Small pictures for reports, made by the one decoder: what can be embedded can also be shown."""

from __future__ import annotations

import base64
import dataclasses
import io
import re

import numpy as np
from PIL import Image, JpegImagePlugin

from encoder.decode import DecodeOptions, decode_picture, decode_shrunk

STORED_PX = 320
"""Longest side of the thumbnails that a store keeps."""

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


def stored_thumbnail(data: bytes, max_pixels: int) -> bytes:
    """The JPEG that a store keeps of a picture: longest side 320 px, the original's size in its comment.

    Raises:
        Rejected: As `decode_picture` does.
    """
    picture = decode_shrunk(data, STORED_PX, max_pixels)
    return _as_jpeg(picture.pixels, comment=f"{picture.width}x{picture.height}".encode())


def shrink_stored(jpeg: bytes, longest_px: int, max_pixels: int) -> Thumbnail:
    """A thumbnail of what `stored_thumbnail` made; never larger than that is.

    Raises:
        Rejected: As `decode_picture` does.
    """
    made = make_thumbnail(jpeg, longest_px, max_pixels)
    with JpegImagePlugin.JpegImageFile(io.BytesIO(jpeg)) as picture:
        size = re.fullmatch(rb"(\d{1,9})x(\d{1,9})", picture.info.get("comment", b""))
    if size is None:
        return made
    small = made.jpeg if longest_px < STORED_PX else jpeg
    return Thumbnail(small, int(size[1]), int(size[2]))


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


def _as_jpeg(pixels: np.ndarray, comment: bytes = b"") -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "JPEG", quality=_QUALITY, optimize=True, comment=comment)
    return encoded.getvalue()
