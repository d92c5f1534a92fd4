from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from encoder.thumbnails import make_thumbnail, thumbnail_data_uri
from store.rejects import Reason, Rejected
from tests.support.hostile import encoded, photo, turned, with_alpha

MAX_PIXELS = 1_000_000


def shown(uri: str) -> Image.Image:
    kind, _, body = uri.partition(",")
    assert kind == "data:image/jpeg;base64"
    picture = Image.open(io.BytesIO(base64.b64decode(body, validate=True)))
    assert picture.format == "JPEG"
    return picture


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "BMP"])
def test_every_format_becomes_a_square_jpeg_that_looks_like_it(name: str) -> None:
    found = shown(thumbnail_data_uri(encoded(photo(60, 60), name), 60))
    assert found.size == (60, 60)
    difference = np.asarray(found, int) - np.asarray(photo(60, 60), int)
    assert np.abs(difference).mean() < 12


def test_the_whole_picture_lies_on_white() -> None:
    pixels = np.asarray(shown(thumbnail_data_uri(encoded(Image.new("RGB", (80, 40), "black"), "PNG"), 64)))
    assert pixels.shape == (64, 64, 3)
    assert pixels[:12].min() > 235
    assert pixels[20:44].max() < 20
    assert np.asarray(shown(thumbnail_data_uri(encoded(with_alpha(), "PNG")))).shape == (160, 160, 3)


def test_orientation_is_that_of_the_camera() -> None:
    upright, on_its_side = (shown(thumbnail_data_uri(turned(turn), 64)) for turn in (1, 6))
    difference = np.asarray(upright, int) - np.asarray(on_its_side, int)
    difference_turned = np.asarray(upright.rotate(-90), int) - np.asarray(on_its_side, int)
    assert np.abs(difference_turned).mean() < 12 < 36 < np.abs(difference).mean()


@pytest.mark.parametrize(("data", "reason"), [(b"", Reason.EMPTY), (b"nothing of the kind", Reason.NOT_AN_IMAGE)])
def test_what_cannot_be_decoded_is_rejected(data: bytes, reason: Reason) -> None:
    with pytest.raises(Rejected) as rejected:
        thumbnail_data_uri(data)
    assert rejected.value.reason is reason


@pytest.mark.parametrize(
    "size", [(90, 60), (60, 90), (400, 40), (64, 64), (65, 63), (20, 9), (1, 1), (3000, 1)], ids=str
)
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_thumbnail_has_the_pictures_shape_and_is_never_larger(name, size):
    thumbnail = make_thumbnail(encoded(photo(*size), name), 64, MAX_PIXELS)
    assert (thumbnail.width, thumbnail.height) == size
    found = Image.open(io.BytesIO(thumbnail.jpeg))
    assert (found.format, found.mode) == ("JPEG", "RGB")
    scale = min(1, 64 / max(size))
    assert found.size == tuple(max(1, round(side * scale)) for side in size)
    wanted = photo(*size).resize(found.size, Image.Resampling.BILINEAR)
    assert np.abs(np.asarray(found, int) - np.asarray(wanted, int)).mean() < 12


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_thumbnail_is_upright_and_says_the_upright_size(turn):
    thumbnail = make_thumbnail(turned(turn), 45, MAX_PIXELS)
    assert (thumbnail.width, thumbnail.height) == ((60, 90) if turn >= 5 else (90, 60))
    found = Image.open(io.BytesIO(thumbnail.jpeg))
    assert found.size == ((30, 45) if turn >= 5 else (45, 30))
    wanted = ImageOps.exif_transpose(Image.open(io.BytesIO(turned(turn)))).resize(found.size)
    assert np.abs(np.asarray(found, int) - np.asarray(wanted, int)).mean() < 12


@pytest.mark.parametrize("name", ["JPEG", "WEBP", "AVIF", "PNG", "TIFF"])
def test_a_thumbnail_carries_no_metadata(name):
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "secret", 6
    options = {} if name == "TIFF" else {"icc_profile": b"secret" * 100, "comment": "secret"}
    data = encoded(photo(), name, exif=exif, dpi=(72, 72), **options)
    assert b"secret" in data or name == "PNG"
    jpeg = make_thumbnail(data, 45, MAX_PIXELS).jpeg
    found = Image.open(io.BytesIO(jpeg))
    assert b"secret" not in jpeg
    assert b"Exif" not in jpeg
    assert set(found.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


def test_a_transparent_thumbnail_lies_on_white():
    found = np.asarray(Image.open(io.BytesIO(make_thumbnail(encoded(with_alpha(), "PNG"), 45, MAX_PIXELS).jpeg)))
    assert found.shape == (30, 45, 3)
    assert found[:, 0].min() > 235


def test_what_is_no_picture_has_no_thumbnail():
    with pytest.raises(Rejected) as rejected:
        make_thumbnail(b"nothing of the kind", 160, MAX_PIXELS)
    assert rejected.value.reason is Reason.NOT_AN_IMAGE
    with pytest.raises(ValueError, match="image_size: expected at least 1, found 0"):
        make_thumbnail(encoded(photo(), "PNG"), 0, MAX_PIXELS)


def test_of_too_large_a_picture_there_is_no_thumbnail():
    data = encoded(photo(90, 60), "JPEG")
    assert make_thumbnail(data, 45, 5400).width == 90
    with pytest.raises(Rejected, match="expected at most 5399 pixels, found 90 x 60 = 5400") as rejected:
        make_thumbnail(data, 45, 5399)
    assert rejected.value.reason is Reason.TOO_MANY_PIXELS
