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

import io
import logging
import math
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from encoder import formats
from store.rejects import Reason, Rejected

RESIZE_MODES = ("pad", "crop", "stretch")

PREPROCESSING_VERSION: int = 1
"""Part of the encoder's fingerprint: raise it whenever the same bytes come out as other pixels."""

# Pillow's own limit is one global for the process and only warns; decode_picture checks each header by its options.
# Damaged metadata makes Pillow warn and log: the store keeps the reject, the console stays quiet. Set here, once,
# because warnings.catch_warnings is not thread-safe.
Image.MAX_IMAGE_PIXELS = None
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").setLevel(logging.CRITICAL + 1)

# Opened by class: Image.open would try every plugin Pillow has, down to those that start other programs.
_OPENERS: dict[str, type[ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
}
# Pillow has no exception of its own for "a variant I do not decode", only these words.
_LACKING = (
    "unsupported",
    "not supported",
    "not yet supported",
    "not installed",
    "not available",
    "cannot handle",
    "unknown pixel mode",
    "unknown data organization",
    "unknown raw mode",
)

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
        pixels: uint8 [image_size, image_size, 3], RGB, 0 to 255; possibly read-only.
        width: Width of the original in pixels, turned upright.
        height: Height of the original in pixels, turned upright.
    """

    pixels: np.ndarray
    width: int
    height: int


def decode_picture(data: bytes, options: DecodeOptions) -> Picture:
    """Decodes, turns upright, lays over white and resizes one picture. Thread-safe.

    Args:
        data: The encoded file: JPEG, PNG, GIF, BMP, WebP, TIFF or AVIF. Told apart by content.
        options: Size, fit and limit.

    Raises:
        Rejected: As the module's docstring lists. Nothing else is raised, save MemoryError.
    """
    name = formats.recognise(data)
    lean, exif = formats.without_metadata(name, data)
    if name == "TIFF":
        formats.check_tiff_tags(data)
    if name == "WEBP":  # Pillow allocates the canvas as it opens one
        _check_size(formats.webp_size(data) or (0, 0), options)
    source = _open(name, lean)
    _check_size(source.size, options)
    width, height = source.size
    target, box = _fit(width, height, options)
    try:
        small = _load_resized(source, target, box)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever damage makes them trip over
        lacking = _is_lacking(error)
        reason = Reason.UNSUPPORTED_FORMAT if lacking else Reason.TRUNCATED
        wanted = "a variant that is decoded here" if lacking else "complete pixel data"
        raise Rejected(reason, f"{name}: expected {wanted}, found: {_one_line(error)}") from error
    # A TIFF comes upright from Pillow, its size already turned.
    turn = 1 if name == "TIFF" else formats.orientation(exif or source.info.get("exif", b""))
    if turn in _UPRIGHT:
        small = small.transpose(_UPRIGHT[turn])
    if turn >= 5:
        width, height = height, width
    return Picture(_on_canvas(small, options.image_size), width, height)


class _Stream(io.BytesIO):
    """Bytes that remember whether a reader ever asked for more than there were."""

    ran_dry = False

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        if size is not None and len(found) < size:
            self.ran_dry = True
        return found


def _open(name: str, data: bytes) -> ImageFile.ImageFile:
    stream = _Stream(data)
    try:
        source = _OPENERS[name](stream)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's parsers raise whatever a hostile header makes them trip over
        if formats.is_cut_short(name, data, stream.ran_dry):
            reason, wanted = Reason.TRUNCATED, "a complete header"
        elif _is_lacking(error):
            reason, wanted = Reason.UNSUPPORTED_FORMAT, "a variant that is decoded here"
        else:
            reason, wanted = Reason.NOT_AN_IMAGE, "a sound header"
        raise Rejected(reason, f"{name}: expected {wanted}, found: {_one_line(error)}") from error
    if name == "TIFF":
        # Keeps Pillow from reading every EXIF sub-directory after loading.
        source.is_animated = True  # type: ignore[attr-defined]
    return source


def _check_size(size: tuple[int, int], options: DecodeOptions) -> None:
    width, height = size
    if width * height > options.max_pixels:
        found = f"{width} x {height} = {width * height}"
        raise Rejected(Reason.TOO_MANY_PIXELS, f"expected at most {options.max_pixels} pixels, found {found}")


def _is_lacking(error: Exception) -> bool:
    """Whether Pillow lacks a decoder for the variant; a KeyError is its look-up of a TIFF's layout or compression."""
    text = str(error).lower()
    return any(words in text for words in _LACKING) or isinstance(error.__cause__, KeyError)


def _one_line(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200]


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


def _load_resized(source: ImageFile.ImageFile, target: tuple[int, int], region: tuple[float, float]) -> Image.Image:
    """Loads pixels and resizes the central region to `target`; mode RGB, or RGBa (premultiplied) with transparency."""
    width, height = source.size
    if isinstance(source, JpegImagePlugin.JpegImageFile):
        # libjpeg scales by 1/2, 1/4 or 1/8 almost for free; Pillow takes the smallest that still covers this size.
        source.draft(None, (math.ceil(target[0] * width / region[0]), math.ceil(target[1] * height / region[1])))
    source.decodermaxblock = _WHOLE_FILE_BYTES
    source.load()
    image = _as_colour(source)
    shrunk_x, shrunk_y = image.width / width, image.height / height
    wide, tall = region[0] * shrunk_x, region[1] * shrunk_y
    # Rounding must not put the region's edges a hair outside the picture: Pillow refuses that.
    left, top = max(0.0, (image.width - wide) / 2), max(0.0, (image.height - tall) / 2)
    right, bottom = min(image.width, left + wide), min(image.height, top + tall)
    image = image.resize(target, _RESAMPLE, box=(left, top, right, bottom), reducing_gap=_REDUCING_GAP)
    return image.convert("RGB") if image.mode == "L" else image


def _as_colour(image: Image.Image) -> Image.Image:
    """The picture in mode L, RGB or, where it has transparency, RGBa."""
    if image.mode in ("F", "I") or image.mode.startswith("I;16"):
        return _to_eight_bits(image)
    if image.has_transparency_data:
        # Premultiplied: resized so, transparent pixels do not bleed, and white can be put below after resizing.
        return image.convert("RGBA").convert("RGBa")
    if image.mode == "1":
        return image.convert("L")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


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


def _on_canvas(image: Image.Image, size: int) -> np.ndarray:
    """Centres a picture on white; uint8 [size, size, 3]."""
    pixels = np.asarray(image)
    if image.mode == "RGBa":
        below = 255 - pixels[..., 3:].astype(np.uint16)
        pixels = np.minimum(pixels[..., :3] + below, 255).astype(np.uint8)
    height, width = pixels.shape[:2]
    if (width, height) == (size, size):
        return pixels
    canvas = np.full((size, size, 3), 255, np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    canvas[top : top + height, left : left + width] = pixels
    return canvas
