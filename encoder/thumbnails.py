"""Small pictures for reports, made by the one decoder: what can be embedded can also be shown."""

from __future__ import annotations

import base64
import io

from PIL import Image

from encoder.decode import DecodeOptions, decode_picture

_QUALITY = 80


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
    encoded = io.BytesIO()
    Image.fromarray(picture.pixels).save(encoded, "JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(encoded.getvalue()).decode("ascii")
