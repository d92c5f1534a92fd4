from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from encoder.thumbnails import thumbnail_data_uri
from store.rejects import Reason, Rejected
from tests.support.hostile import encoded, photo, turned, with_alpha


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
