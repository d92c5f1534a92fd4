"""Damaged and hostile files: rejected or decoded, within the limits, and nothing of them is quoted."""

from __future__ import annotations

import errno
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import PngImagePlugin

import encoder.opening
from encoder.decode import RESIZE_MODES, DecodeOptions, decode_picture
from store.rejects import Reason, Rejected
from store.shortage import ShortageError
from tests.support import hostile
from tests.support.hostile import EMBEDDED, encoded, photo, with_alpha

# The decoder silences Pillow for its process; pytest restores warnings for each test.
pytestmark = pytest.mark.filterwarnings(r"ignore:::PIL\..*")
SMALL = DecodeOptions(image_size=32)
GOOD = {
    "JPEG": encoded(photo(40, 30), "JPEG"),
    "JPEG progressive": encoded(photo(40, 30), "JPEG", progressive=True),
    "PNG": encoded(photo(24, 16), "PNG"),
    "GIF": encoded(photo(24, 16).quantize(16), "GIF"),
    "BMP": encoded(photo(12, 10), "BMP"),
    "BMP palette": encoded(photo(12, 10).quantize(16), "BMP"),
    "WEBP": encoded(photo(40, 30), "WEBP"),
    "WEBP alpha": encoded(with_alpha(40, 30), "WEBP"),
    "TIFF": encoded(photo(12, 10), "TIFF"),
    "TIFF LZW": encoded(photo(12, 10), "TIFF", compression="tiff_lzw"),
    "AVIF": encoded(photo(40, 30), "AVIF"),
}
HOSTILE = {name: (data, expected) for name, data, expected in hostile.hostile_files()}


def outcome(data: bytes, options: DecodeOptions = SMALL) -> tuple[str, bytes]:
    try:
        picture = decode_picture(data, options)
    except Rejected as rejected:
        return rejected.reason.value, b""
    assert picture.pixels.shape == (options.image_size, options.image_size, 3)
    assert picture.pixels.dtype == np.uint8
    return EMBEDDED, picture.pixels.tobytes()


def test_the_limit_on_pixels_is_inclusive_and_both_numbers_are_named():
    data = encoded(photo(90, 60), "PNG")
    assert outcome(data, DecodeOptions(max_pixels=5400))[0] == EMBEDDED
    with pytest.raises(Rejected, match=r"at most 5399 pixels.*90 x 60 = 5400") as caught:
        decode_picture(data, DecodeOptions(max_pixels=5399))
    assert caught.value.reason is Reason.TOO_MANY_PIXELS


@pytest.mark.parametrize("name", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "WEBP alpha", "WEBP lossless", "TIFF", "AVIF"])
def test_the_limit_holds_for_every_format(name):
    data = encoded(photo(24, 16), "WEBP", lossless=True) if name == "WEBP lossless" else GOOD[name]
    assert outcome(data, DecodeOptions(max_pixels=100))[0] == "too_many_pixels"


@pytest.mark.parametrize("name", HOSTILE)
def test_every_hostile_file_ends_as_it_should(name):
    data, expected = HOSTILE[name]
    found = outcome(data)[0]
    assert found in ({expected} if isinstance(expected, str) else {reason.value for reason in expected})


@pytest.mark.parametrize("name", ["profile-bomb.png", "text-bomb.png", "many-texts.png", "exif-bomb.jpg"])
def test_overgrown_metadata_does_not_change_the_picture(name):
    clean = encoded(photo(), "PNG" if name.endswith("png") else "JPEG")
    assert outcome(HOSTILE[name][0]) == outcome(clean)


@pytest.mark.parametrize("name", GOOD)
def test_cut_anywhere_a_picture_is_truncated_from_its_signature_to_its_last_pixel(name):
    data = GOOD[name]
    outcomes = [outcome(data[:end]) for end in range(len(data) + 1)]
    journey = [found for at, (found, _) in enumerate(outcomes) if at == 0 or found != outcomes[at - 1][0]]
    assert journey == ["empty", "not_an_image", "truncated", EMBEDDED]
    assert {pixels for found, pixels in outcomes if found == EMBEDDED} == {outcomes[-1][1]}
    assert [found for found, _ in outcomes].index("truncated") <= 18


@settings(max_examples=600)
@given(
    name=st.sampled_from(sorted(GOOD)),
    flips=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=6),
    keep=st.floats(0, 1),
    resize=st.sampled_from(RESIZE_MODES),
)
def test_damage_is_rejected_or_decoded_and_nothing_else(name, flips, keep, resize):
    data = bytearray(GOOD[name])
    for share, value in flips:
        data[int(share * len(data))] = value
    kept = len(data) if keep > 0.5 else int(2 * keep * len(data))
    assert outcome(bytes(data[:kept]), DecodeOptions(image_size=32, resize=resize, max_pixels=1_000_000))


@given(tail=st.binary(max_size=80), name=st.sampled_from(sorted(GOOD)), kept=st.integers(0, 40))
def test_nonsense_after_a_signature_is_rejected_or_decoded_and_nothing_else(tail, name, kept):
    assert outcome(GOOD[name][:kept] + tail, DecodeOptions(image_size=16, max_pixels=1_000_000))


def test_many_threads_find_what_one_finds():
    files = [data for data, _ in HOSTILE.values()]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(outcome, files)) == [outcome(data) for data in files]


@pytest.mark.parametrize("where", ["header", "pixels"])
@pytest.mark.parametrize(
    "error",
    [
        OSError("out of memory error when reading image file"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EMFILE, "Too many open files"),
        MemoryError(),
    ],
    ids=repr,
)
def test_what_this_process_lacks_is_no_fault_of_the_picture(where, error, monkeypatch):
    def fail(*_: object) -> None:
        raise error

    if where == "header":
        monkeypatch.setitem(encoder.opening._OPENERS, "PNG", fail)
    else:
        monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", fail)
    with pytest.raises((ShortageError, MemoryError)):
        decode_picture(GOOD["PNG"], SMALL)


SECRET = b"root:x:0:0:secret-token-5316"


@pytest.mark.parametrize(
    "data",
    [
        SECRET,
        b"\x89PNG\r\n\x1a\n" + b"\0\0\0\x08" + SECRET,
        b"II*\0" + SECRET,
        b"BM" + SECRET * 4,
        b"GIF89a" + SECRET,
        b"RIFF\x40\0\0\0WEBP" + SECRET,
        b"\xff\xd8\xff\xe0" + SECRET,
        b"<!doctype html>" + SECRET,
    ],
)
def test_a_reject_quotes_nothing_of_the_file(data: bytes) -> None:
    with pytest.raises(Rejected) as rejected:
        decode_picture(data, DecodeOptions(32))
    assert not any(piece in rejected.value.detail for piece in ("root", "x:0", "secret", "token", "5316", "b'", "\\x"))


def test_a_page_in_a_pictures_place_is_called_one() -> None:
    with pytest.raises(Rejected, match="found an HTML page"):
        decode_picture(b"\n <HTML><title>404</title>", DecodeOptions(32))
