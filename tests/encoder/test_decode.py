from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps, JpegImagePlugin

from encoder.decode import RESIZE_MODES, DecodeOptions, decode_picture
from tests.support.hostile import encoded, photo, png_chunk, turned, with_alpha

# The decoder silences Pillow for its process; pytest restores warnings for each test.
pytestmark = pytest.mark.filterwarnings(r"ignore:::PIL\..*")
SMALL = DecodeOptions(image_size=32)


def reference(data: bytes, size: int, resize: str) -> np.ndarray:
    """The straightforward way: decode whole, turn upright, lay over white, resize, then pad or crop."""
    source = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    white = Image.new("RGBA", source.size, "white")
    picture = Image.alpha_composite(white, source.convert("RGBA")).convert("RGB")
    if resize == "stretch":
        return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))
    bound = max(picture.size) if resize == "pad" else min(picture.size) * 224 / 256
    scaled = (max(1, round(picture.width * size / bound)), max(1, round(picture.height * size / bound)))
    small = picture.resize(scaled, Image.Resampling.BILINEAR)
    canvas = Image.new("RGB", (size, size), "white")
    canvas.paste(small, ((size - small.width) // 2, (size - small.height) // 2))
    return np.asarray(canvas)


def assert_close(found: np.ndarray, wanted: np.ndarray, mean: float, largest: float = 255) -> None:
    difference = np.abs(found.astype(int) - wanted.astype(int))
    assert difference.mean() <= mean
    assert difference.max() <= largest


def deep_png(colour_type: int, samples: np.ndarray) -> bytes:
    """A PNG of 16 bits per sample; uint16 [height, width, channels]."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], 16, colour_type, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, body) for kind, body in chunks)


@pytest.mark.parametrize("resize", RESIZE_MODES)
@pytest.mark.parametrize("size", [(90, 60), (60, 90), (720, 480), (336, 1008)], ids=str)
@pytest.mark.parametrize(
    ("name", "options", "mean", "largest"),
    [
        ("PNG", {}, 0.5, 4),
        ("BMP", {}, 0.5, 4),
        ("TIFF", {}, 0.5, 4),
        ("TIFF", {"compression": "tiff_adobe_deflate"}, 0.5, 4),
        ("WEBP", {"lossless": True}, 0.5, 4),
        ("WEBP", {}, 0.5, 4),
        ("AVIF", {}, 0.5, 4),
        # Scaled while decoding: nearly the same picture.
        ("JPEG", {}, 1.5, 60),
        ("JPEG", {"progressive": True, "subsampling": 0}, 1.5, 60),
    ],
)
def test_pixels_are_those_of_the_straightforward_way(name, options, mean, largest, size, resize):
    data = encoded(photo(*size), name, **options)
    # 112: these sides come out whole in `reference`, which would else round where a crop of the original need not.
    found = decode_picture(data, DecodeOptions(image_size=112, resize=resize))
    assert_close(found.pixels, reference(data, 112, resize), mean, largest)
    assert (found.width, found.height) == size


@pytest.mark.parametrize("resize", RESIZE_MODES)
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_every_orientation_is_turned_upright(name, orientation, resize):
    data = turned(orientation, name)
    found = decode_picture(data, DecodeOptions(image_size=48, resize=resize))
    assert_close(found.pixels, reference(data, 48, resize), 2.0)
    assert (found.width, found.height) == ((60, 90) if orientation >= 5 else (90, 60))


@pytest.mark.parametrize(
    "block",
    [
        b"MM\0*" + struct.pack(">LHHHLHH", 8, 1, 0x0112, 3, 1, 6, 0),
        b"MM\0*" + struct.pack(">LHHHLL", 8, 1, 0x0112, 4, 1, 6),
        b"II*\0" + struct.pack("<LHHHLBBH", 8, 1, 0x0112, 1, 1, 6, 0, 0),
        b"II*\0" + struct.pack("<LHHHLHH", 8, 60_000, 0x0112, 3, 1, 6, 0),
    ],
)
def test_an_orientation_is_read_from_odd_exif(block):
    jpeg = encoded(photo(), "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", len(block) + 8) + b"Exif\0\0" + block
    found = decode_picture(jpeg[:2] + segment + jpeg[2:], SMALL)
    assert (found.width, found.height) == (60, 90)


@pytest.mark.parametrize("resize", RESIZE_MODES)
@pytest.mark.parametrize("width", [64, 95, 96, 191, 192, 383, 768, 1100])
def test_a_jpeg_is_never_scaled_below_what_the_result_needs(monkeypatch, width, resize):
    loaded = []
    load = JpegImagePlugin.JpegImageFile.load

    def noted(self):
        loaded.append(self.size)
        return load(self)

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "load", noted)
    height = width * 2 // 3
    decode_picture(encoded(photo(width, height), "JPEG"), DecodeOptions(image_size=96, resize=resize))
    needed = {"pad": (96, 64), "crop": (110 * 3 // 2, 110), "stretch": (96, 96)}[resize]
    if width < needed[0] or height < needed[1]:
        needed = (width, height)
    assert loaded[0][0] >= needed[0]
    assert loaded[0][1] >= needed[1]
    assert loaded[0][0] < 2.1 * needed[0] or loaded[0][1] < 2.1 * needed[1], "and not much larger either"


@pytest.mark.parametrize("jpeg_mode", ["CMYK", "L"])
def test_a_jpeg_in_other_colours_shows_the_same_picture(jpeg_mode):
    found = decode_picture(encoded(photo().convert(jpeg_mode), "JPEG", quality=95), SMALL)
    wanted = reference(encoded(photo().convert(jpeg_mode).convert("RGB"), "PNG"), 32, "pad")
    assert_close(found.pixels, wanted, 2.5)


@pytest.mark.parametrize("name", ["PNG", "WEBP", "TIFF"])
def test_transparency_is_laid_over_white(name):
    data = encoded(with_alpha(), name, **({"lossless": True, "exact": True} if name == "WEBP" else {}))
    found = decode_picture(data, DecodeOptions(image_size=56, resize="crop"))
    assert_close(found.pixels, reference(data, 56, "crop"), 0.7, 4)
    assert found.pixels[:, 0].mean() > 220 > found.pixels[:, -1].mean()


@pytest.mark.parametrize("name", ["PNG", "WEBP", "TIFF", "AVIF", "GIF"])
def test_what_is_transparent_is_white_whatever_colour_lies_below(name):
    below = Image.new("RGBA", (20, 20), (200, 30, 40, 0))
    assert (decode_picture(encoded(below, name), SMALL).pixels >= 254).all()


@pytest.mark.parametrize(
    ("picture", "options"),
    [
        (with_alpha().convert("LA"), {}),
        (with_alpha().quantize(32), {}),
        (photo().quantize(32), {"transparency": 3}),
        (photo().convert("L"), {"transparency": 90}),
        (photo().convert("1"), {}),
        (photo().convert("P", palette=Image.Palette.ADAPTIVE, colors=7), {}),
    ],
    ids=["grey alpha", "palette alpha", "palette index", "grey key", "one bit", "palette"],
)
def test_every_kind_of_png_is_laid_over_white(picture, options):
    data = encoded(picture, "PNG", **options)
    assert_close(decode_picture(data, SMALL).pixels, reference(data, 32, "pad"), 0.7, 4)


@pytest.mark.parametrize("level", [0, 255, 256, 0x7FFF, 0x8000, 0xFFFF])
def test_sixteen_bits_are_scaled_not_clipped(level):
    grey = np.full((20, 20), level, np.uint16)
    shifted = Image.frombytes("I;16B", (20, 20), grey.astype(">u2").tobytes())
    colour = np.full((20, 20, 3), level, np.uint16)
    clear = np.concatenate([colour, np.full((20, 20, 1), 0xFFFF, np.uint16)], axis=2)
    files = [encoded(Image.fromarray(grey), "PNG"), encoded(Image.fromarray(grey), "TIFF"), encoded(shifted, "TIFF")]
    files += [encoded(Image.fromarray(grey), "TIFF", compression="tiff_lzw")]
    files += [deep_png(0, grey[..., None]), deep_png(2, colour), deep_png(6, clear), deep_png(4, clear[..., 2:])]
    for data in files:
        assert_close(decode_picture(data, SMALL).pixels, np.full((32, 32, 3), level / 257), 1, 1)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (np.array([0, 0.5, 1, -3], np.float32), [0, 128, 255, 0]),
        (np.array([0, 100, 200, np.nan], np.float32), [0, 100, 200, 0]),
        (np.array([0, 65535, 32768, np.inf], np.float32), [0, 255, 128, 0]),
        (np.array([0, 1e30, 5e29, -np.inf], np.float32), [0, 255, 128, 0]),
        (np.array([0, 10, 255, -7], np.int32), [0, 10, 255, 0]),
        (np.array([0, 1 << 30, 1 << 29, 0], np.int32), [0, 255, 128, 0]),
    ],
    ids=str,
)
def test_floats_and_long_integers_are_scaled_to_a_usual_white(values, wanted):
    data = encoded(Image.fromarray(np.repeat(np.repeat(values[None], 16, axis=1), 64, axis=0)), "TIFF")
    row = decode_picture(data, DecodeOptions(image_size=64)).pixels[32, 8::16, 1]
    assert np.abs(row.astype(int) - wanted).max() <= 1


def test_a_cmyk_tiff_keeps_its_colours():
    data = encoded(photo().convert("CMYK"), "TIFF")
    assert_close(decode_picture(data, SMALL).pixels, reference(encoded(photo(), "PNG"), 32, "pad"), 1.5)


@pytest.mark.parametrize("name", ["GIF", "WEBP", "AVIF", "PNG", "TIFF", "MPO"])
def test_of_many_frames_the_first_is_taken(name):
    frames = {"save_all": True, "append_images": [Image.new("RGB", (90, 60), "red"), Image.new("RGB", (90, 60))]}
    found = decode_picture(encoded(photo(), name, **frames), SMALL)
    assert_close(found.pixels, reference(encoded(photo(), "PNG"), 32, "pad"), 6)


@pytest.mark.parametrize("resize", RESIZE_MODES)
@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (2, 3), (3, 700)], ids=str)
@pytest.mark.parametrize("name", ["PNG", "JPEG"])
def test_tiny_and_thin_pictures_work(name, size, resize):
    found = decode_picture(encoded(Image.new("RGB", size, (10, 20, 30)), name), DecodeOptions(resize=resize))
    assert (found.width, found.height) == size
    ink = (np.abs(found.pixels.astype(int) - (10, 20, 30)) <= 2).all(axis=2)
    pad_share = max(1 / 224, min(size) / max(size))
    assert ink.mean() == pytest.approx(pad_share if resize == "pad" else 1, rel=0.2)


@pytest.mark.parametrize("size", [(2, 1), (1, 2), (4, 3)])
def test_padding_is_white_and_even(size):
    pixels = decode_picture(encoded(Image.new("RGB", size), "PNG"), DecodeOptions(image_size=64)).pixels
    dark = pixels.max(axis=2) < 128
    rows, columns = np.flatnonzero(dark.any(axis=1)), np.flatnonzero(dark.any(axis=0))
    assert rows[0] == 63 - rows[-1]
    assert columns[0] == 63 - columns[-1]
    assert (pixels[~dark] == 255).all()


def test_nothing_is_printed_and_tensorflow_is_not_imported():
    script = """
import sys
from encoder.decode import DecodeOptions, decode_picture
from store.rejects import Rejected
from tests.support.hostile import hostile_files
for name, data, expected in list(hostile_files()):
    try:
        decode_picture(data, DecodeOptions(image_size=32))
    except Rejected:
        pass
assert "tensorflow" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("wrong", [{"image_size": 0}, {"resize": "squeeze"}, {"max_pixels": 0}])
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        DecodeOptions(**wrong)
