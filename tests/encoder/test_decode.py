from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, JpegImagePlugin

from encoder.decode import RESIZE_MODES, DecodeOptions, decode_picture
from store.rejects import Reason, Rejected
from tests.support import hostile
from tests.support.hostile import EMBEDDED, encoded, photo, png_chunk, turned, with_alpha

LOSSLESS = {
    "PNG": {},
    "BMP": {},
    "TIFF": {},
    "TIFF deflate": {"compression": "tiff_adobe_deflate"},
    "TIFF big-endian": {"compression": "tiff_lzw"},
    "WEBP": {"lossless": True},
}
LOSSY = {
    "JPEG": {"quality": 92},
    "JPEG progressive": {"progressive": True, "quality": 92},
    "JPEG 4:4:4": {"subsampling": 0, "quality": 92},
    "AVIF": {"quality": 90},
}
HOSTILE = {name: (data, expected) for name, data, expected in hostile.hostile_files()}


def reference(data: bytes, size: int, resize: str) -> np.ndarray:
    """The straightforward way: decode whole, turn, lay over white, resize, crop or pad."""
    source = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    white = Image.new("RGBA", source.size, "white")
    picture = Image.alpha_composite(white, source.convert("RGBA")).convert("RGB")
    if resize == "stretch":
        return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))
    if resize == "crop":
        scale = size * 256 / 224 / min(picture.size)
        return np.asarray(ImageOps.fit(resized(picture, scale), (size, size), Image.Resampling.BILINEAR, centering=(0.5, 0.5), bleed=0))
    shrunk = resized(picture, size / max(picture.size))
    canvas = Image.new("RGB", (size, size), "white")
    canvas.paste(shrunk, ((size - shrunk.width) // 2, (size - shrunk.height) // 2))
    return np.asarray(canvas)


def resized(picture: Image.Image, scale: float) -> Image.Image:
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.BILINEAR)
