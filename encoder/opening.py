"""Opening a picture's file with Pillow: by the class of its format, quietly, its errors told apart."""

from __future__ import annotations

import io
import logging
import re
import warnings

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
from store.shortage import Lack, ShortageError, shortage_of

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


class _Stream(io.BytesIO):
    """Bytes that remember whether a reader ever asked for more than there were."""

    ran_dry = False

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        if size is not None and len(found) < size:
            self.ran_dry = True
        return found


def open_picture(name: str, data: bytes) -> ImageFile.ImageFile:
    """Reads the header; pixels are read when the picture is loaded.

    Args:
        name: The format, as `encoder.formats.recognise` names it.
        data: The whole file.

    Raises:
        Rejected: TRUNCATED, UNSUPPORTED_FORMAT or NOT_AN_IMAGE.
        ShortageError, MemoryError: It is this process that has too little memory.
    """
    stream = _Stream(data)
    try:
        source = _OPENERS[name](stream)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's parsers raise whatever a hostile header makes them trip over
        _refuse_own(error)
        if formats.is_cut_short(name, data, stream.ran_dry):
            reason, wanted = Reason.TRUNCATED, "a complete header"
        elif _is_lacking(error):
            reason, wanted = Reason.UNSUPPORTED_FORMAT, "a variant that is decoded here"
        else:
            reason, wanted = Reason.NOT_AN_IMAGE, "a sound header"
        raise Rejected(reason, f"{name}: expected {wanted}, found: {_plain_words(error)}") from error
    if name == "TIFF":
        # Keeps Pillow from reading every EXIF sub-directory after loading.
        source.is_animated = True  # type: ignore[attr-defined]
    return source


def load_failure(name: str, error: Exception) -> Rejected:
    """The reject for what Pillow raised while it loaded the pixels of a picture of format `name`.

    Raises:
        ShortageError: It is this process that has too little memory or room for temporary files.
    """
    _refuse_own(error)
    lacking = _is_lacking(error)
    reason = Reason.UNSUPPORTED_FORMAT if lacking else Reason.TRUNCATED
    wanted = "a variant that is decoded here" if lacking else "complete pixel data"
    return Rejected(reason, f"{name}: expected {wanted}, found: {_plain_words(error)}")


def _refuse_own(error: Exception) -> None:
    """Pillow says in words alone that one of its decoders could not allocate."""
    shortage = ShortageError.of(Lack.MEMORY) if "out of memory" in str(error).lower() else shortage_of(error)
    if shortage is not None:
        raise shortage from error


def _is_lacking(error: Exception) -> bool:
    """Whether Pillow lacks a decoder for the variant; a KeyError is its look-up of a TIFF's layout or compression."""
    text = str(error).lower()
    return any(words in text for words in _LACKING) or isinstance(error.__cause__, KeyError)


def _plain_words(error: Exception) -> str:
    """What Pillow says up to the first thing that it quotes, which may be bytes of the file."""
    words = re.match(r"[A-Za-z ,-]*", " ".join(str(error).split()))
    return (words[0].strip(" ,-") if words else "") or type(error).__name__
