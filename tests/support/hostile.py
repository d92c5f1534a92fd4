"""A folder of pictures that break careless decoders, drawn with Pillow and NumPy, and what must become of each."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from store.rejects import Reason

EMBEDDED = "embedded"
_TRUNCATED, _NO_IMAGE = {Reason.TRUNCATED}, {Reason.NOT_AN_IMAGE}
_UNSUPPORTED, _TOO_MANY = {Reason.UNSUPPORTED_FORMAT}, {Reason.TOO_MANY_PIXELS}

File = tuple[str, bytes, str | set[Reason]]


def make_hostile_folder(path: str | Path) -> dict[str, str | Collection[Reason]]:
    """Writes the files into a folder.

    Returns:
        File name to "embedded" or to the set of acceptable reasons. No two names share a stem.
    """
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    expected: dict[str, str | Collection[Reason]] = {}
    for name, data, outcome in hostile_files():
        (folder / name).write_bytes(data)
        expected[name] = outcome
    return expected


def hostile_files() -> Iterator[File]:
    """Yields name, content and what must become of it."""
    yield from _not_pictures()
    yield from _cut_short()
    yield from _oversized()
    yield from _other_formats()
    yield from _odd_but_sound()
    yield from _overgrown_metadata()
    yield from _damaged()


def photo(width: int = 90, height: int = 60) -> Image.Image:
    """A picture with smooth colours and no symmetry; mode RGB."""
    y, x = np.mgrid[0:height, 0:width]
    red, green = 255 * x / max(1, width - 1), 255 * y / max(1, height - 1)
    blue = 127 + 100 * np.sin(x / 7) * np.cos(y / 11)
    return Image.fromarray(np.stack([red, green, blue], axis=-1).astype(np.uint8))


def with_alpha(width: int = 90, height: int = 60) -> Image.Image:
    """The same picture fading from transparent on the left to opaque on the right; mode RGBA."""
    picture = photo(width, height)
    fade = np.tile(np.linspace(0, 255, width).astype(np.uint8), (height, 1))
    picture.putalpha(Image.fromarray(fade))
    return picture


def encoded(picture: Image.Image, name: str, **options: object) -> bytes:
    """The picture as a file of Pillow's format `name`."""
    stream = io.BytesIO()
    picture.save(stream, name, **options)
    return stream.getvalue()


def turned(orientation: int, name: str = "JPEG", **options: object) -> bytes:
    """The photo stored with an EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(photo(), name, exif=exif, **options)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """One PNG chunk with its checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def tiff(entries: list[tuple[int, int, int, int]], body: bytes = b"") -> bytes:
    """A little-endian TIFF of one directory: entries are tag, type, count and value or offset."""
    packed = b"".join(struct.pack("<HHLL", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<LH", 8, len(entries)) + packed + bytes(4) + body


def _not_pictures() -> Iterator[File]:
    yield "zero-bytes.jpg", b"", {Reason.EMPTY}
    yield "one-byte.png", b"\x89", _NO_IMAGE
    yield "html-page.jpg", b"<!DOCTYPE html><html><body>404 <svg width='1'></svg></body></html>", _NO_IMAGE
    yield "json-error.jpg", b'{"error": "gone"}', _NO_IMAGE
    yield "spaces.gif", b" " * 4000, _NO_IMAGE
    yield "zeros.jpg", bytes(100_000), _NO_IMAGE
    yield "noise.png", np.random.default_rng(0).bytes(20_000), _NO_IMAGE
    yield "bm-is-a-word.bmp", b"BMW makes cars. " * 50, _NO_IMAGE
    yield "pdf-document.jpg", b"%PDF-1.7\n" + bytes(500), _NO_IMAGE
    yield "video.mp4", b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + bytes(500), _NO_IMAGE
    yield "sound.webp", b"RIFF" + struct.pack("<I", 500) + b"WAVEfmt " + bytes(500), _NO_IMAGE


def _cut_short() -> Iterator[File]:
    size = (200, 150)
    whole = {
        "jpg": encoded(photo(*size), "JPEG"),
        "png": encoded(photo(*size), "PNG"),
        "gif": encoded(photo(*size).quantize(), "GIF"),
        "bmp": encoded(photo(*size), "BMP"),
        "webp": encoded(photo(*size), "WEBP"),
        "tif": encoded(photo(*size), "TIFF", compression="tiff_lzw"),
        "avif": encoded(photo(*size), "AVIF"),
    }
    for suffix, data in whole.items():
        for percent in (10, 50, 90):
            yield f"cut-{suffix}-at-{percent}-percent.{suffix}", data[: len(data) * percent // 100], _TRUNCATED
        yield f"cut-{suffix}-in-signature.{suffix}", data[:2], _NO_IMAGE
    yield "cut-jpg-header.jpg", whole["jpg"][:30], _TRUNCATED
    yield "cut-png-header.png", whole["png"][:20], _TRUNCATED
    yield "cut-gif-header.gif", whole["gif"][:12], _TRUNCATED
    yield "cut-webp-header.webp", whole["webp"][:18], _TRUNCATED
    progressive = encoded(photo(*size), "JPEG", progressive=True)
    yield "cut-progressive.jpg", progressive[: len(progressive) // 2], _TRUNCATED


def _oversized() -> Iterator[File]:
    side = 50_000
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    yield "huge.png", b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(bytes(1000))), _TOO_MANY
    small = encoded(photo(), "JPEG")
    frame = small.index(b"\xff\xc0") + 5
    yield "huge.jpg.jpg", small[:frame] + struct.pack(">HH", side, side) + small[frame + 4 :], _TOO_MANY
    gif = encoded(photo().quantize(), "GIF")
    yield "huge-screen.gif", gif[:6] + struct.pack("<HH", side, side) + gif[10:], _TOO_MANY
    at = gif.index(b"\x2c\0\0\0\0") + 5
    yield "huge-frame.gif", gif[:at] + struct.pack("<HH", side, side) + gif[at + 4 :], _TOO_MANY
    bmp = encoded(photo(), "BMP")
    yield "huge.bmp.bmp", bmp[:18] + struct.pack("<ii", side, side) + bmp[26:], _TOO_MANY
    canvas = (side - 1).to_bytes(3, "little") * 2
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + canvas + bytes(100)
    yield "huge-canvas.webp", b"RIFF" + struct.pack("<I", len(body)) + body, _TOO_MANY
    layout = [(256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8)]
    yield "huge.tif.tif", tiff([*layout, (278, 4, 1, side), (279, 4, 1, side * side)]), _TOO_MANY


def _other_formats() -> Iterator[File]:
    yield "phone.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200), _UNSUPPORTED
    yield "phone-as.jpg", b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(200), _UNSUPPORTED
    yield "drawing.svg", b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"></svg>', _UNSUPPORTED
    yield "drawing-bare.svg", b'<svg viewBox="0 0 1 1"></svg>', _UNSUPPORTED
    yield "layers.psd", b"8BPS\0\x01" + bytes(100), _UNSUPPORTED
    yield "favicon.ico", encoded(photo(32, 32), "ICO"), _UNSUPPORTED
    yield "jpeg2000.jp2", b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100), _UNSUPPORTED
    yield "jpegxl.jxl", b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(100), _UNSUPPORTED
    yield "script.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", _UNSUPPORTED
    yield "plain.ppm", encoded(photo(), "PPM"), _UNSUPPORTED
    small = encoded(photo(), "JPEG")
    depth = small.index(b"\xff\xc0") + 4
    yield "twelve-bits.jpg", small[:depth] + b"\x0c" + small[depth + 1 :], _UNSUPPORTED
    layout = [(256, 4, 1, 4), (257, 4, 1, 4), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 8), (279, 4, 1, 16)]
    yield "jpeg2000-inside.tif", tiff([*layout, (259, 3, 1, 34712)]), _UNSUPPORTED
    yield "five-bits.tif", tiff([(256, 4, 1, 4), (257, 4, 1, 4), (258, 3, 1, 5), (273, 4, 1, 8)]), _UNSUPPORTED


def _odd_but_sound() -> Iterator[File]:
    grey16 = Image.fromarray(np.linspace(0, 65535, 90 * 60).reshape(60, 90).astype(np.uint16))
    yield "png-named.jpg", encoded(photo(), "PNG"), EMBEDDED
    yield "jpeg-without-suffix", encoded(photo(), "JPEG"), EMBEDDED
    yield "cmyk.jpg", encoded(photo().convert("CMYK"), "JPEG"), EMBEDDED
    yield "grey.jpg", encoded(photo().convert("L"), "JPEG"), EMBEDDED
    yield "progressive.jpg", encoded(photo(), "JPEG", progressive=True), EMBEDDED
    yield "junk-after-the-end.jpg", encoded(photo(), "JPEG") + bytes(5000), EMBEDDED
    for orientation in (3, 6, 9):
        yield f"orientation-{orientation}.jpg", turned(orientation), EMBEDDED
    yield "sixteen-bits.png", encoded(grey16, "PNG"), EMBEDDED
    yield "sixteen-bits.tif.tif", encoded(grey16, "TIFF"), EMBEDDED
    yield "alpha.png", encoded(with_alpha(), "PNG"), EMBEDDED
    yield "alpha.webp.webp", encoded(with_alpha(), "WEBP"), EMBEDDED
    yield "alpha.avif.avif", encoded(with_alpha(), "AVIF"), EMBEDDED
    yield "palette-alpha.png", encoded(with_alpha().quantize(), "PNG"), EMBEDDED
    yield "one-bit.png", encoded(photo().convert("1"), "PNG"), EMBEDDED
    frames = {"save_all": True, "append_images": [Image.new("RGB", (90, 60), "red"), photo().rotate(180)]}
    yield "animated.gif", encoded(photo(), "GIF", **frames), EMBEDDED
    yield "animated.webp.webp", encoded(photo(), "WEBP", **frames), EMBEDDED
    yield "animated.avif.avif", encoded(photo(), "AVIF", **frames), EMBEDDED
    yield "animated.png.png", encoded(photo(), "PNG", **frames), EMBEDDED
    yield "pages.tif", encoded(photo(), "TIFF", **frames), EMBEDDED
    yield "stereo.mpo", encoded(photo(), "MPO", **frames), EMBEDDED
    yield "one-pixel.png", encoded(photo(1, 1), "PNG"), EMBEDDED
    yield "thin.png", encoded(photo(1, 5000), "PNG"), EMBEDDED
    yield "flat.jpg", encoded(photo(5000, 1), "JPEG"), EMBEDDED
    bmp = encoded(photo(), "BMP")
    yield "top-down.bmp", bmp[:22] + struct.pack("<i", -60) + bmp[26:], EMBEDDED
    gif = encoded(photo().quantize(), "GIF")
    yield "frame-over-screen.gif", gif[:6] + struct.pack("<HH", 40, 40) + gif[10:], EMBEDDED


def _overgrown_metadata() -> Iterator[File]:
    png = encoded(photo(), "PNG")
    bomb = zlib.compress(bytes(64 << 20), 9)
    for name, chunk in {
        "profile-bomb.png": png_chunk(b"iCCP", b"x\0\0" + bomb),
        "text-bomb.png": png_chunk(b"zTXt", b"x\0\0" + bomb),
        "many-texts.png": png_chunk(b"tEXt", b"x\0" + bytes(1000)) * 2000,
        "no-frames-promised.png": png_chunk(b"acTL", bytes(8)),
    }.items():
        yield name, png[:33] + chunk + png[33:], EMBEDDED
    tags = b"".join(struct.pack("<HHLL", tag, 7, 60_000, 0) for tag in range(0x8000, 0x8000 + 5400))
    block = b"Exif\0\0II*\0" + struct.pack("<LH", 8, 5400) + tags
    jpeg = encoded(photo(), "JPEG")
    yield "exif-bomb.jpg", jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:], EMBEDDED
    entries = [(tag, 7, 700_000, 0) for tag in range(1000, 60_000)]
    yield "tag-bomb.tif", tiff(entries), _NO_IMAGE


def _damaged() -> Iterator[File]:
    png = encoded(photo(), "PNG")
    middle = len(png) // 2
    yield "flipped.png", png[:middle] + bytes([png[middle] ^ 0xFF]) + png[middle + 1 :], _TRUNCATED
    for name, width, depth in (("bad-depth.png", 9, 7), ("no-width.png", 0, 8)):
        header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, 9, depth, 2, 0, 0, 0))
        yield name, png[:8] + header + png[33:], _NO_IMAGE
    yield "jpeg-start-then-text.jpg", b"\xff\xd8\xff" + b"this is not a picture. " * 20, _NO_IMAGE
    yield "webp-start-then-text.webp", b"RIFF" + struct.pack("<I", 404) + b"WEBP" + b"text" * 100, _NO_IMAGE
    yield "avif-of-nonsense.avif", b"\0\0\0\x14ftypavif\0\0\0\0avif\0\0\0\x40meta" + bytes(56), _NO_IMAGE
    yield "tags-of-nonsense.tif", tiff([(256, 2, 4, 0), (257, 12, 1, 8), (258, 3, 9, 0), (273, 5, 1, 8)]), _NO_IMAGE
    yield "too-many-samples.tif", tiff([(256, 4, 1, 4), (257, 4, 1, 4), (277, 4, 1, 2**31), (273, 4, 1, 8)]), _NO_IMAGE
    yield (
        "strip-past-the-end.tif",
        tiff([(256, 4, 1, 9), (257, 4, 1, 9), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 10**6)]),
        _TRUNCATED,
    )
