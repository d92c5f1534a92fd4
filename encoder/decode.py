"""Encoded picture to pixels of one size: the one decoder that batch, serving and training share.

What a picture is rejected for:

* EMPTY: there are no bytes.
* NOT_AN_IMAGE: no known signature, or a complete header that makes no sense.
* UNSUPPORTED_FORMAT: a picture, of a format or a variant that is not decoded here.
* TOO_MANY_PIXELS: by the header, before pixels are allocated.
* TRUNCATED: the signature is known, and then the bytes end within the header, or the first frame's pixel data is
  incomplete or visibly damaged. What may be missing is what no pixel needs: later frames, trailing chunks. JPEG data
  has no checksum, so damage inside it that still decodes is not noticed.

Only the first frame of an animation or a multi-page file is looked at. Colour profiles are not applied.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageFile, JpegImagePlugin

from encoder import formats
from encoder.colour import as_colour, over_white
from encoder.opening import load_failure, open_picture
from store.rejects import Reason, Rejected

RESIZE_MODES = ("pad", "crop", "stretch")

PREPROCESSING_VERSION: int = 1
"""Part of the encoder's fingerprint: raise it whenever the same bytes come out as other pixels."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_CROPPED_SHARE = 224 / 256
# All bytes reach the decoder in one read: they are in memory already, and 64 kB pieces would be copied together again.
_WHOLE_FILE_BYTES = 2**31 - 1
# With antialiasing, a quarter faster than bicubic for a 500 px JPEG and what ImageNet models are evaluated with.
_RESAMPLE = Image.Resampling.BILINEAR
# A box filter first shrinks what is over three times too large: 7 ms instead of 20 for 7 million pixels, and 0.2 levels
# off on average.
_REDUCING_GAP = 3.0


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """How pictures become pixels.

    Attributes:
        image_size: Width and height of the result, in pixels.
        resize: `pad` fits the whole picture on white; `crop` takes the central square of 7/8 of the short side, as in
            ImageNet evaluation (short side to 256, centre 224); `stretch` ignores the aspect ratio.
        max_pixels: Larger pictures are rejected. One picture in work takes up to about 9 bytes per pixel, in each
            thread.

    Raises:
        ValueError: A value is out of range.
    """

    image_size: int = 224
    resize: str = "pad"
    max_pixels: int = 64_000_000

    def __post_init__(self) -> None:
        if self.image_size < 1:
            raise ValueError(f"image_size: expected at least 1, found {self.image_size}")
        if self.resize not in RESIZE_MODES:
            raise ValueError(f"resize: expected one of {', '.join(RESIZE_MODES)}, found {self.resize!r}")
        if self.max_pixels < 1:
            raise ValueError(f"max_pixels: expected at least 1, found {self.max_pixels}")


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture.

    Attributes:
        pixels: uint8 [rows, columns, 3], RGB, 0 to 255; possibly read-only. Square from `decode_picture`, with
            `image_size` rows and columns.
        width: Width of the original in pixels, turned upright.
        height: Height of the original in pixels, turned upright.
    """

    pixels: np.ndarray
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Box:
    """A part of a picture, in pixels of the upright picture.

    Attributes:
        x: Left edge, from the picture's left.
        y: Upper edge, from the picture's top.
        width: From 1.
        height: From 1.
    """

    x: int
    y: int
    width: int
    height: int


def decode_picture(data: bytes, options: DecodeOptions, crop: Box | None = None) -> Picture:
    """Decodes, turns upright, lays over white and resizes one picture. Thread-safe.

    Args:
        data: The encoded file: JPEG, PNG, GIF, BMP, WebP, TIFF or AVIF. Told apart by content.
        options: Size, fit and limit.
        crop: The part to take as if it were the whole picture; what lies outside the picture is cut off.

    Returns:
        The pixels; width and height are those of the whole picture, also with a crop.

    Raises:
        Rejected: As the module's docstring lists.
        ValueError: The crop is empty or beside the picture.
        MemoryError, ShortageError: It is this process that ran short. Nothing else is raised.
    """
    small, width, height = _decode(data, options, crop)
    return Picture(_on_canvas(over_white(small), options.image_size), width, height)


def decode_shrunk(data: bytes, longest_px: int, max_pixels: int) -> Picture:
    """Decodes one whole picture, upright, over white, in its own shape. Thread-safe.

    Args:
        data: As for `decode_picture`.
        longest_px: The longer side; a smaller picture keeps its size.
        max_pixels: Larger pictures are rejected.

    Returns:
        uint8 [height, width, 3] pixels, and the size of the original.

    Raises:
        Rejected: As `decode_picture` does.
        ValueError: `longest_px` or `max_pixels` is below 1.
    """
    small, width, height = _decode(data, DecodeOptions(longest_px, max_pixels=max_pixels), None, enlarge=False)
    return Picture(over_white(small), width, height)


def _decode(
    data: bytes, options: DecodeOptions, crop: Box | None, *, enlarge: bool = True
) -> tuple[Image.Image, int, int]:
    """The upright, resized picture in mode RGB or RGBa, and the upright original's width and height."""
    name = formats.recognise(data)
    lean, exif = formats.without_metadata(name, data)
    if name == "TIFF":
        formats.check_tiff_tags(data)
    if name == "WEBP":  # Pillow allocates the canvas as it opens one
        _check_size(formats.webp_size(data) or (0, 0), options)
    source = open_picture(name, lean)
    _check_size(source.size, options)
    # A TIFF comes upright from Pillow, its size already turned.
    turn = 1 if name == "TIFF" else formats.orientation(exif or source.info.get("exif", b""))
    part = None if crop is None else _as_stored(crop, source.size, turn)
    size = source.size if part is None else (part.width, part.height)
    width, height = source.size[::-1] if turn >= 5 else source.size
    if not enlarge:
        options = replace(options, image_size=min(options.image_size, max(size)))
    try:
        small = _load_resized(source, *_fit(*size, options), part)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever damage makes them trip over
        raise load_failure(name, error) from error
    return small.transpose(_UPRIGHT[turn]) if turn in _UPRIGHT else small, width, height


def _as_stored(crop: Box, stored: tuple[int, int], turn: int) -> Box:
    """A box of the upright picture, clipped to it, in the pixels of the stored one.

    Args:
        crop: Of the upright picture.
        stored: Width and height of the stored picture.
        turn: Its EXIF orientation.
    """
    width, height = stored[::-1] if turn >= 5 else stored
    x, y = max(0, crop.x), max(0, crop.y)
    wide, tall = min(width, crop.x + crop.width) - x, min(height, crop.y + crop.height) - y
    if wide < 1 or tall < 1:
        found = f"{crop.width} x {crop.height} from x={crop.x}, y={crop.y}"
        raise ValueError(f"crop: expected a part of the picture, {width} x {height} pixels, found {found}")
    if turn >= 5:
        x, y, wide, tall = y, x, tall, wide
    if turn in (2, 3, 7, 8):
        x = stored[0] - x - wide
    if turn in (3, 4, 6, 7):
        y = stored[1] - y - tall
    return Box(x, y, wide, tall)


def _check_size(size: tuple[int, int], options: DecodeOptions) -> None:
    width, height = size
    if width * height > options.max_pixels:
        found = f"{width} x {height} = {width * height}"
        raise Rejected(Reason.TOO_MANY_PIXELS, f"expected at most {options.max_pixels} pixels, found {found}")


def _fit(width: int, height: int, options: DecodeOptions) -> tuple[tuple[int, int], tuple[float, float]]:
    """Size of the result before it is centred on the canvas, and the size of the central region it is made from."""
    size = options.image_size
    if options.resize == "crop":
        side = min(width, height) * _CROPPED_SHARE
        return (size, size), (side, side)
    if options.resize == "stretch":
        return (size, size), (width, height)
    scale = size / max(width, height)
    return (max(1, round(width * scale)), max(1, round(height * scale))), (width, height)


def _load_resized(
    source: ImageFile.ImageFile, target: tuple[int, int], region: tuple[float, float], part: Box | None
) -> Image.Image:
    """Loads pixels and resizes the central region of a part to `target`; mode RGB, or RGBa with transparency.

    Args:
        source: Opened, not loaded.
        target: Width and height of the result.
        region: Width and height of the region, in the source's pixels.
        part: Of the stored picture; None for all of it.
    """
    width, height = source.size
    if isinstance(source, JpegImagePlugin.JpegImageFile):
        # libjpeg scales by 1/2, 1/4 or 1/8 almost for free; Pillow takes the smallest that still covers this size.
        source.draft(None, (math.ceil(target[0] * width / region[0]), math.ceil(target[1] * height / region[1])))
    source.decodermaxblock = _WHOLE_FILE_BYTES
    source.load()
    image = as_colour(source)
    shrunk_x, shrunk_y = image.width / width, image.height / height
    x, y, part_wide, part_tall = 0.0, 0.0, float(image.width), float(image.height)
    if part is not None:
        x, part_wide, y, part_tall = part.x * shrunk_x, part.width * shrunk_x, part.y * shrunk_y, part.height * shrunk_y
        # Cut off, so that the filter does not mix in what lies beyond the part's edges.
        edges = math.floor(x), math.floor(y), math.ceil(x + part_wide), math.ceil(y + part_tall)
        image = image.crop((*edges[:2], min(image.width, edges[2]), min(image.height, edges[3])))
        x, y = x - edges[0], y - edges[1]
    wide, tall = region[0] * shrunk_x, region[1] * shrunk_y
    # Rounding must not put the region's edges a hair outside the picture: Pillow refuses that.
    left, top = max(0.0, x + (part_wide - wide) / 2), max(0.0, y + (part_tall - tall) / 2)
    right, bottom = min(image.width, left + wide), min(image.height, top + tall)
    image = image.resize(target, _RESAMPLE, box=(left, top, right, bottom), reducing_gap=_REDUCING_GAP)
    return image.convert("RGB") if image.mode == "L" else image


def _on_canvas(pixels: np.ndarray, size: int) -> np.ndarray:
    """Centres a picture on white; uint8 [size, size, 3]."""
    height, width = pixels.shape[:2]
    if (width, height) == (size, size):
        return pixels
    canvas = np.full((size, size, 3), 255, np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    canvas[top : top + height, left : left + width] = pixels
    return canvas
