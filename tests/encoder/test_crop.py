"""A part of a picture comes out as the same part would, cut out and stored as a picture of its own."""

from __future__ import annotations

import functools
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, JpegImagePlugin

from encoder.decode import RESIZE_MODES, Box, DecodeOptions, decode_picture
from store.rejects import Reason, Rejected
from tests.support.hostile import encoded, photo

MODES = ["RGB", "RGBA", "L", "LA", "P", "1", "I;16"]
TO_STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def noise(mode: str, width: int, height: int, seed: int) -> Image.Image:
    """A picture in which no pixel is like its neighbours."""
    generator = np.random.default_rng(seed)
    if mode == "I;16":
        return Image.fromarray(generator.integers(0, 65536, (height, width), np.uint16))
    bands = {"RGB": 3, "RGBA": 4, "LA": 2}.get(mode, 1)
    values = generator.integers(0, 256, (height, width, bands), np.uint8)
    picture = Image.fromarray(values[..., 0] if bands == 1 else values)
    if mode == "P":
        picture.putpalette(generator.integers(0, 256, 768).tolist())
    return picture.convert("1") if mode == "1" else picture


def stored(upright: Image.Image, orientation: int, name: str = "PNG", **options: object) -> bytes:
    """The file that shows `upright` when it is turned as its EXIF orientation says."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = upright.transpose(TO_STORED[orientation]) if orientation in TO_STORED else upright
    return encoded(turned, name, exif=exif, **options)


def cut(upright: Image.Image, box: Box) -> Image.Image:
    return upright.crop((box.x, box.y, box.x + box.width, box.y + box.height))


@st.composite
def sizes_and_boxes(draw: st.DrawFn, largest_px: int = 90) -> tuple[int, int, Box]:
    width, height = draw(st.integers(1, largest_px)), draw(st.integers(1, largest_px))
    x, y = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    return width, height, Box(x, y, draw(st.integers(1, width - x)), draw(st.integers(1, height - y)))


@given(
    sizes_and_boxes(),
    st.sampled_from(MODES),
    st.integers(1, 8),
    st.sampled_from(RESIZE_MODES),
    st.integers(1, 40),
    st.integers(0, 9),
)
def test_a_part_is_the_same_part_as_a_picture_of_its_own(size, mode, orientation, resize, image_size, seed):
    width, height, box = size
    upright, options = noise(mode, width, height, seed), DecodeOptions(image_size, resize)
    found = decode_picture(stored(upright, orientation), options, box)
    own = decode_picture(stored(cut(upright, box), orientation), options)
    np.testing.assert_array_equal(found.pixels, own.pixels)
    assert (found.width, found.height) == (width, height)
    # Pixels are turned after resizing, whose two passes round once each: an upright file differs by that.
    by_itself = decode_picture(encoded(cut(upright, box), "PNG"), options)
    assert np.abs(found.pixels.astype(int) - by_itself.pixels.astype(int)).max() <= 2


@given(
    sizes_and_boxes(),
    st.sampled_from([("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("BMP", {}), ("WEBP", {"lossless": True})]),
    st.integers(1, 8),
    st.sampled_from(RESIZE_MODES),
)
def test_a_part_is_the_same_in_every_lossless_format(size, form, orientation, resize):
    (width, height, box), (name, how), options = size, form, DecodeOptions(24, resize)
    upright = noise("RGB", width, height, 1)
    data = encoded(upright, name, **how) if name == "BMP" else stored(upright, orientation, name, **how)
    # A TIFF is turned before it is resized, a BMP has no orientation.
    own = stored(cut(upright, box), orientation if name == "WEBP" else 1)
    np.testing.assert_array_equal(decode_picture(data, options, box).pixels, decode_picture(own, options).pixels)


@functools.cache
def large_jpeg(orientation: int) -> tuple[bytes, Image.Image]:
    """720 x 480 pixels: the file, and what a viewer shows."""
    data = stored(photo(720, 480), orientation, "JPEG", quality=95)
    return data, ImageOps.exif_transpose(Image.open(io.BytesIO(data)))


@settings(max_examples=50)
@given(st.integers(1, 8), st.sampled_from(RESIZE_MODES), st.integers(0, 500), st.integers(0, 300), st.integers(40, 700))
def test_a_part_of_a_jpeg_is_nearly_the_same_part(orientation, resize, x, y, side):
    data, whole = large_jpeg(orientation)
    box, options = Box(x, y, side, side), DecodeOptions(64, resize)
    found = decode_picture(data, options, box)
    clipped = whole.crop((x, y, min(720, x + side), min(480, y + side)))
    own = decode_picture(encoded(clipped, "PNG"), options)
    # Scaled while decoding: the part's edges fall between two pixels, and padding may fall one pixel aside.
    assert np.abs(found.pixels.astype(int) - own.pixels.astype(int)).mean() <= 1.5
    assert (found.width, found.height) == (720, 480)


@pytest.mark.parametrize("resize", RESIZE_MODES)
@pytest.mark.parametrize(("side", "scale"), [(1024, 8), (512, 4), (256, 2), (128, 1), (30, 1)])
def test_a_part_of_a_jpeg_is_scaled_in_decoding_by_its_own_size(monkeypatch, side, scale, resize):
    loaded = []
    load = JpegImagePlugin.JpegImageFile.load

    def noted(self):
        loaded.append(self.size)
        return load(self)

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "load", noted)
    data = encoded(photo(1024, 1024), "JPEG")
    decode_picture(data, DecodeOptions(112 if resize == "crop" else 128, resize), Box(0, 0, side, side))
    assert loaded[0] == (1024 // scale, 1024 // scale)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
def test_a_box_around_the_whole_picture_changes_nothing(name, orientation):
    data, options = stored(photo(301, 200), orientation, name), DecodeOptions(48)
    found = decode_picture(data, options, Box(-5, -7, 1000, 1000))
    np.testing.assert_array_equal(found.pixels, decode_picture(data, options).pixels)


def test_what_lies_outside_is_cut_off():
    picture, options = photo(90, 60), DecodeOptions(32)
    found = decode_picture(encoded(picture, "PNG"), options, Box(70, -10, 50, 30))
    own = decode_picture(encoded(cut(picture, Box(70, 0, 20, 20)), "PNG"), options)
    np.testing.assert_array_equal(found.pixels, own.pixels)


@pytest.mark.parametrize(
    "box", [Box(0, 0, 0, 5), Box(0, 0, 5, -1), Box(60, 0, 5, 5), Box(0, 90, 5, 5), Box(-5, 0, 5, 5), Box(0, -9, 2, 9)]
)
def test_a_box_with_nothing_in_it_is_refused_with_both_sizes(box):
    found = rf"found {box.width} x {box.height} from x={box.x}, y={box.y}"
    with pytest.raises(ValueError, match=rf"^crop: expected a part of the picture, 60 x 90 pixels, {found}$"):
        decode_picture(stored(photo(60, 90), 6, "JPEG"), DecodeOptions(32), box)


def test_a_bad_picture_is_rejected_as_without_a_box():
    data = encoded(photo(200, 150), "PNG")
    with pytest.raises(Rejected) as rejected:
        decode_picture(data[: len(data) // 2], DecodeOptions(32), Box(0, 0, 2, 2))
    assert rejected.value.reason is Reason.TRUNCATED
    with pytest.raises(Rejected) as rejected:
        decode_picture(data, DecodeOptions(32, max_pixels=29_999), Box(0, 0, 2, 2))
    assert rejected.value.reason is Reason.TOO_MANY_PIXELS
