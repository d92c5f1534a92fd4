"""What the bytes of a picture say before a pixel is decoded: format, orientation, and the parts that draw nothing.

Metadata is cut off here because it is where a small file can ask for much memory or time: profiles and texts that
inflate a thousandfold, thousands of EXIF tags that all point at the same megabyte.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from store.rejects import Reason, Rejected

_TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BMP_HEADER_BYTES = (12, 40, 52, 56, 64, 108, 124)
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1", b"crx "}
_UNDECODED = {
    b"\xff\x4f\xff\x51": "JPEG 2000 codestream",
    b"\x00\x00\x00\x0cjP  \r\n\x87\n": "JPEG 2000",
    b"\xff\x0a": "JPEG XL codestream",
    b"\x00\x00\x00\x0cJXL \r\n\x87\n": "JPEG XL",
    b"\xff\xd8\xff\xf7": "JPEG-LS",
    b"8BPS": "Photoshop",
    b"\x00\x00\x01\x00": "icon",
    b"\x00\x00\x02\x00": "cursor",
    b"icns": "Apple icon",
    b"DDS ": "DirectDraw surface",
    b"%!PS": "PostScript",
    b"\xc5\xd0\xd3\xc6": "PostScript",
    b"\xd7\xcd\xc6\x9a": "Windows metafile",
    b"II\xbc": "JPEG XR",
    b"II*\x00\x10\x00\x00\x00CR": "Canon raw",
    b"IIRO": "Olympus raw",
    b"IIU\0": "Panasonic raw",
    b"FUJIFILMCCD-RAW": "Fujifilm raw",
    b"v/1\x01": "OpenEXR",
    b"#?RADIANCE": "Radiance HDR",
    b"qoif": "QOI",
    b"gimp xcf": "GIMP",
    b"BPG\xfb": "BPG",
    b"AT&TFORM": "DjVu",
    **{b"P%d%c" % (digit, space): "netpbm" for digit in range(1, 8) for space in b"\n\r\t "},
}


_HTML = re.compile(rb"\s*<(?:!doctype\s+html|html)\b", re.IGNORECASE)


def recognise(data: bytes) -> str:
    """Names the format of a picture by its signature, never by a file name.

    Returns:
        One of JPEG, PNG, GIF, BMP, WEBP, TIFF, AVIF.

    Raises:
        Rejected: EMPTY, NOT_AN_IMAGE where no signature is known, UNSUPPORTED_FORMAT where it is one we do not decode.
    """
    if not data:
        raise Rejected(Reason.EMPTY, "expected a picture, found 0 bytes")
    undecoded = next((name for magic, name in _UNDECODED.items() if data.startswith(magic)), None)
    if undecoded is None and _is_svg(data[:4096]):
        undecoded = "SVG"
    brands = _brands(data)
    if undecoded is None and not brands & _AVIF_BRANDS and brands & _HEIF_BRANDS:
        undecoded = "HEIF"
    if undecoded:
        raise Rejected(Reason.UNSUPPORTED_FORMAT, f"expected {_SUPPORTED}, found {undecoded}")
    for name, matches in _SIGNATURES.items():
        if matches(data):
            return name
    # What was found is not quoted: it may be any file of this machine or page of its network.
    found = "an HTML page" if _HTML.match(data[:512]) else "a file of another kind"
    raise Rejected(Reason.NOT_AN_IMAGE, f"expected {_SUPPORTED}, found {found}")


def _brands(data: bytes) -> set[bytes]:
    if data[4:8] != b"ftyp":
        return set()
    box = data[8 : min(int.from_bytes(data[:4], "big"), 256)]
    return {box[start : start + 4] for start in range(0, len(box), 4)}


def _is_svg(head: bytes) -> bool:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<?xml", b"<!--", b"<!doctype svg")):
        return b"<svg" in text and b"<html" not in text
    return text.startswith((b"<svg ", b"<svg>", b"<svg\n", b"<svg\r", b"<svg\t"))


_SIGNATURES: dict[str, Callable[[bytes], bool]] = {
    "JPEG": lambda data: data.startswith(b"\xff\xd8\xff"),
    "PNG": lambda data: data.startswith(b"\x89PNG\r\n\x1a\n"),
    "GIF": lambda data: data.startswith((b"GIF87a", b"GIF89a")),
    # Two letters alone would take any text that starts with BM for a picture.
    "BMP": lambda data: data.startswith(b"BM") and int.from_bytes(data[14:18], "little") in _BMP_HEADER_BYTES,
    "WEBP": lambda data: data.startswith(b"RIFF") and data[8:12] == b"WEBP",
    "TIFF": lambda data: data.startswith(_TIFF_HEADS),
    "AVIF": lambda data: bool(_brands(data) & _AVIF_BRANDS),
}
_SUPPORTED = "a JPEG, PNG, GIF, BMP, WebP, TIFF or AVIF picture"


def without_metadata(name: str, data: bytes) -> tuple[bytes, bytes]:
    """Cuts from a JPEG or PNG what draws no pixel; other formats come back as they are.

    Of an animated PNG the default picture remains.

    Returns:
        The remaining bytes, and the EXIF block that was among the removed ones (empty if there was none).
    """
    if name == "JPEG":
        return _keep(data, _jpeg_parts(data))
    if name == "PNG":
        return _keep(data, _png_parts(data))
    return data, b""


@dataclass(frozen=True, slots=True)
class _Part:
    start: int
    end: int
    drawn: bool
    exif: bytes = b""


def _keep(data: bytes, parts: Iterator[_Part]) -> tuple[bytes, bytes]:
    view, kept, exif, position = memoryview(data), [], b"", 0
    for part in parts:
        exif = exif or part.exif
        if not part.drawn:
            kept.append(view[position : part.start])
            position = part.end
    return (b"".join([*kept, view[position:]]) if position else data), exif


def _jpeg_parts(data: bytes) -> Iterator[_Part]:
    """The segments before the first scan. Application data draws nothing, save JFIF's and Adobe's colour space."""
    start = 2
    while start + 4 <= len(data) and data[start] == 0xFF:
        marker = data[start + 1]
        if marker == 0xFF:
            start += 1
            continue
        end = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
        if marker < 0xC0 or 0xD0 <= marker <= 0xDA or end < start + 4 or end > len(data):
            return
        metadata = marker == 0xFE or (marker & 0xF0 == 0xE0 and marker not in (0xE0, 0xEE))
        is_exif = marker == 0xE1 and data[start + 4 : start + 10] == b"Exif\0\0"
        yield _Part(start, end, not metadata, data[start + 10 : end] if is_exif else b"")
        start = end


def _png_parts(data: bytes) -> Iterator[_Part]:
    start = 8
    while start + 12 <= len(data):
        kind = data[start + 4 : start + 8]
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")
        if end > len(data):
            return
        drawn = kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
        yield _Part(start, end, drawn, data[start + 8 : end - 4] if kind == b"eXIf" else b"")
        start = end


def orientation(exif: bytes) -> int:
    """The EXIF orientation, 1 to 8; 1 where the block is missing, damaged or silent about it."""
    for tag in _tags(exif.removeprefix(b"Exif\0\0")):
        if tag.number == 0x0112:
            return tag.value if 1 <= tag.value <= 8 else 1
    return 1


@dataclass(frozen=True, slots=True)
class _Tag:
    number: int
    size_bytes: int
    offset: int
    value: int


_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


def _tags(data: bytes) -> Iterator[_Tag]:
    """The whole entries of a TIFF block's first directory; `value` is that of a single small integer, else 0."""
    if not data.startswith(_TIFF_HEADS):
        return
    order = "<" if data.startswith(b"II") else ">"
    big = 43 in data[2:4]
    word, count_of, entry = ("Q", "Q", "HHQ8s") if big else ("L", "H", "HHL4s")
    try:
        (start,) = struct.unpack_from(order + word, data, 8 if big else 4)
        (count,) = struct.unpack_from(order + count_of, data, start)
    except struct.error:
        return
    start += struct.calcsize(order + count_of)
    room = max(0, len(data) - start) // struct.calcsize(order + entry)
    end = start + min(count, room) * struct.calcsize(order + entry)
    for number, kind, length, field in struct.iter_unpack(order + entry, data[start:end]):
        (offset,) = struct.unpack(order + word, field)
        value = struct.unpack_from(order + {1: "B", 3: "H", 4: "L"}.get(kind, "B"), field)[0] if length == 1 else 0
        size_bytes = length * _TYPE_BYTES.get(kind, 0)
        yield _Tag(number, size_bytes, offset if size_bytes > len(field) else 0, value)


def check_tiff_tags(data: bytes) -> None:
    """Refuses a TIFF whose tags overlap so often that reading them would need far more memory than the file.

    Raises:
        Rejected: NOT_AN_IMAGE.
    """
    claimed_bytes = sum(tag.size_bytes for tag in _tags(data) if tag.offset + tag.size_bytes <= len(data))
    if claimed_bytes > len(data) + (64 << 20):
        raise Rejected(Reason.NOT_AN_IMAGE, f"expected TIFF tags within {len(data)} bytes, found {claimed_bytes} bytes")


def webp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height a WebP's header declares, or None where the header is incomplete or of no known kind."""
    head = data[12:30]
    if len(head) < 18:
        return None
    if head.startswith(b"VP8X"):
        return 1 + int.from_bytes(head[12:15], "little"), 1 + int.from_bytes(head[15:18], "little")
    if head.startswith(b"VP8L"):
        bits = int.from_bytes(head[9:13], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if head.startswith(b"VP8 "):
        width, height = struct.unpack("<HH", head[14:18])
        return width & 0x3FFF, height & 0x3FFF
    return None


def is_cut_short(name: str, data: bytes, ran_dry: bool) -> bool:
    """Whether a header that could not be read failed for want of bytes.

    Args:
        name: The format, as `recognise` names it.
        data: The whole picture.
        ran_dry: Whether the decoder asked for more bytes than there were.
    """
    if name == "WEBP":  # read whole at once, by a decoder that does not say what it missed
        return 8 + int.from_bytes(data[4:8], "little") > len(data)
    if name == "AVIF":
        start, described = 0, False
        while start + 8 <= len(data):
            size = int.from_bytes(data[start : start + 4], "big")
            if size < 8:  # a box to the end of the file, or a 64-bit length
                return False
            described = described or data[start + 4 : start + 8] == b"meta"
            start += size
        return start != len(data) or not described
    return ran_dry
