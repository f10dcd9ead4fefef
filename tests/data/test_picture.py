"""Tests of data/picture.py: decoding, modes, sizes, damage."""

import io
import struct
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from openal_ray.data.picture import BadPicture, as_pillow, decode, to_array


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def test_a_picture_of_the_right_size_comes_back_unchanged() -> None:
    colour, grey = noise(5, 7, 3), noise(5, 7)
    assert np.array_equal(decode(encoded(Image.fromarray(colour)), (5, 7, 3), convert=False), colour)
    assert np.array_equal(decode(encoded(Image.fromarray(grey)), (5, 7, 1), convert=False), grey[:, :, None])


def test_the_centre_is_cut_out_without_resampling_if_the_short_side_fits() -> None:
    wide, tall = noise(4, 9, 3), noise(7, 4, 3)
    assert np.array_equal(decode(encoded(Image.fromarray(wide)), (4, 4, 3), True), wide[:, 2:6])
    assert np.array_equal(decode(encoded(Image.fromarray(tall)), (4, 4, 3), True), tall[1:5])


def test_resizing_averages_over_all_source_pixels() -> None:
    # Columns of alternating black and white: without antialias a quarter-size copy would be all black or all white.
    stripes = np.tile(np.array([0, 255], np.uint8), (32, 16))
    small = decode(encoded(Image.fromarray(stripes)), (8, 8, 1), True)
    assert np.abs(small[:, 1:-1].astype(float) - 127.5).max() < 16


def test_a_small_picture_is_enlarged_and_keeps_its_proportions() -> None:
    # Three squares side by side: only the middle one, of value 200, may be in the result.
    three = np.repeat(np.array([[0, 200, 90]], np.uint8), 4, axis=1).repeat(4, axis=0)
    assert (decode(encoded(Image.fromarray(three)), (16, 16, 1), True) == 200).all()


def test_a_very_long_picture_needs_no_more_memory_than_its_own() -> None:
    line = np.full((1, 20_000), 77, np.uint8)  # blown up before cropping it would have 224 x 4,480,000 pixels
    assert (decode(encoded(Image.fromarray(line)), (224, 224, 1), True) == 77).all()


def test_exif_orientation_is_applied() -> None:
    picture = np.zeros((8, 16, 3), np.uint8)
    picture[:, 8:] = 255  # white on the right
    exif = Image.Exif()
    exif[0x0112] = 6  # to be seen right, turn it a quarter clockwise: the right side then is the bottom
    turned = decode(encoded(Image.fromarray(picture), exif=exif), (16, 8, 3), True)
    assert (turned[:8] == 0).all()
    assert (turned[8:] == 255).all()


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "YCbCr"])
@pytest.mark.parametrize("channels", [1, 3])
def test_common_modes_are_converted(mode: str, channels: int) -> None:
    white = Image.new("RGB", (4, 4), "white").convert(mode)
    assert white.mode == mode
    assert (to_array(white, (4, 4, channels), convert=True) >= 254).all()


def test_colour_becomes_grey_by_luminance() -> None:
    # ITU-R 601: 0.299 red + 0.587 green + 0.114 blue.
    grey = decode(encoded(Image.new("RGB", (2, 2), (200, 100, 50))), (2, 2, 1), True)
    assert np.abs(grey.astype(float) - (0.299 * 200 + 0.587 * 100 + 0.114 * 50)).max() <= 1


def test_a_palette_with_transparency_is_converted_without_a_warning() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([10, 20, 30, 200, 100, 50])
    content = encoded(image, transparency=b"\x00\x80")
    assert (decode(content, (4, 4, 3), True) == (200, 100, 50)).all()


@pytest.mark.parametrize(
    ("mode", "channels", "wanted"), [("L", 3, "RGB"), ("RGBA", 3, "RGB"), ("P", 1, "L"), ("RGB", 1, "L")]
)
def test_without_convert_another_mode_is_bad(mode: str, channels: int, wanted: str) -> None:
    with pytest.raises(BadPicture, match=f"has mode {mode}, expected {wanted}: set data.convert=true"):
        decode(encoded(Image.new(mode, (4, 4))), (4, 4, channels), convert=False)


@pytest.mark.parametrize(("mode", "kind"), [("I;16", "PNG"), ("F", "TIFF"), ("I", "TIFF")])
def test_deep_modes_are_bad_even_with_convert(mode: str, kind: str) -> None:
    with pytest.raises(BadPicture, match=f"has mode {mode}, expected 8 bits a channel"):
        decode(encoded(Image.new(mode, (4, 4)), kind), (4, 4, 1), convert=True)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP"])
def test_a_truncated_file_is_bad(kind: str) -> None:
    content = encoded(Image.fromarray(noise(64, 64, 3)), kind)
    decode(content, (64, 64, 3), True)
    with pytest.raises(BadPicture, match="cannot be decoded|is damaged"):
        decode(content[: len(content) // 2], (64, 64, 3), True)


def test_what_is_no_picture_is_bad() -> None:
    for content in (b"", b"<html>not found</html>", b"\x89PNG\r\n\x1a\n"):
        with pytest.raises(BadPicture):
            decode(content, (4, 4, 3), True)
    with pytest.raises(BadPicture, match=r"is damaged or not a picture \(known formats: JPEG, PNG, "):
        decode(b"<html>", (4, 4, 3), True)


def test_a_format_that_starts_an_interpreter_is_refused() -> None:
    with pytest.raises(BadPicture, match="is damaged or not a picture"):
        decode(encoded(Image.new("RGB", (4, 4)), "EPS"), (4, 4, 3), True)


def test_a_decompression_bomb_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    decode(encoded(Image.new("L", (10, 10))), (4, 4, 1), True)
    for width in (11, 30):  # a warning of Pillow's, here an error, and an error of its own
        with pytest.raises(BadPicture, match="decompression bomb"):
            decode(encoded(Image.new("L", (width, 10))), (4, 4, 1), True)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_decompression_bomb_is_bad_where_warnings_are_no_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(BadPicture, match="has 11 x 10 pixels, more than 100"):
        decode(encoded(Image.new("L", (11, 10))), (4, 4, 1), True)


def test_a_header_that_promises_too_much_is_bad() -> None:
    header = struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 0, 0, 0, 54, 40, 1 << 24, 1 << 24, 1, 24, 0, 0, 0, 0, 0, 0)
    with pytest.raises(BadPicture, match="decompression bomb"):
        decode(header, (4, 4, 3), True)


def test_items_of_torch_data_sets_become_the_same_picture() -> None:
    picture = noise(5, 6, 3)
    tensor = torch.from_numpy(picture).permute(2, 0, 1)
    forms = [Image.fromarray(picture), picture, tensor, tensor / 255, picture / 255, (picture / 255).astype(np.float32)]
    for item in forms:
        assert np.array_equal(np.asarray(as_pillow(item)), picture)


def test_grey_items_may_lack_the_channel() -> None:
    grey = noise(5, 6)
    for item in (grey, grey[:, :, None], torch.from_numpy(grey), torch.from_numpy(grey)[None]):
        assert np.array_equal(np.asarray(as_pillow(item)), grey)


def test_floating_values_are_rounded_to_the_nearest_byte() -> None:
    values = np.array([[0.0, 0.999, 0.3, 1.0]])  # 0, 254.745, 76.5 and 255; of two as near, the even one
    assert np.asarray(as_pillow(values)).tolist() == [[0, 255, 76, 255]]


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (np.full((2, 2, 3), -0.1), "has values outside 0..1: leave normalisation out"),
        (np.full((2, 2, 3), 1.1), "has values outside 0..1: leave normalisation out"),
        (np.full((2, 2, 3), np.nan), "has values outside 0..1: leave normalisation out"),
        (np.zeros((2, 2, 3), np.int64), "has type int64, expected uint8 0..255 or floating 0..1"),
        (np.zeros((3, 8, 8), np.uint8), r"has shape \(3, 8, 8\), expected \[height, width, channels\]"),
        (np.zeros(4, np.uint8), r"has shape \(4,\), expected"),
        ("a.png", "is a str, expected a Pillow image, a tensor or an array"),
    ],
)
def test_other_items_are_bad(item: object, reason: str) -> None:
    with pytest.raises(BadPicture, match=reason):
        as_pillow(item)
