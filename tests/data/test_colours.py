import io

import numpy as np
import pytest
from PIL import Image

from tuwen.data.colour import to_rgb


def reopened(image: Image.Image, kind: str, **options: object) -> Image.Image:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return Image.open(file)


def pixel(image: Image.Image) -> tuple[int, ...]:
    rgb = to_rgb(image)
    assert rgb.mode == "RGB"
    return rgb.getpixel((0, 0))


def test_rgb_is_left_as_it_is() -> None:
    image = Image.new("RGB", (2, 2), (1, 2, 3))
    assert to_rgb(image) is image


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("1", 1, (255, 255, 255)),
        ("L", 77, (77, 77, 77)),
        ("P", 0, (0, 0, 0)),
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
        ("CMYK", (0, 0, 0, 255), (0, 0, 0)),
        ("YCbCr", (255, 128, 128), (255, 255, 255)),
        ("HSV", (0, 255, 255), (255, 0, 0)),
        ("LAB", (255, 128, 128), (255, 255, 255)),
        ("RGBX", (9, 8, 7, 0), (9, 8, 7)),
        ("LA", (0, 0), (255, 255, 255)),
        ("LA", (0, 255), (0, 0, 0)),
        ("La", (0, 0), (255, 255, 255)),
        ("RGBA", (255, 0, 0, 0), (255, 255, 255)),
        ("RGBA", (255, 0, 0, 255), (255, 0, 0)),
        ("RGBA", (255, 0, 0, 51), (255, 204, 204)),
        ("RGBa", (51, 0, 0, 51), (255, 204, 204)),
        ("PA", (0, 0), (255, 255, 255)),
    ],
)
def test_each_mode(mode: str, colour, expected: tuple[int, ...]) -> None:
    assert pixel(Image.new(mode, (3, 2), colour)) == pytest.approx(expected, abs=1)


@pytest.mark.parametrize("transparency", [5, bytes([255] * 5 + [0])])
def test_a_transparent_palette_colour_is_white(transparency) -> None:
    image = Image.new("P", (2, 1), 5)
    image.putpalette([value for index in range(6) for value in (index * 10, 0, 0)])
    image.putpixel((1, 0), 3)
    rgb = to_rgb(reopened(image, "PNG", transparency=transparency))
    assert (rgb.getpixel((0, 0)), rgb.getpixel((1, 0))) == ((255, 255, 255), (30, 0, 0))


@pytest.mark.parametrize(("mode", "colour"), [("L", 7), ("RGB", (7, 8, 9)), ("1", 0)])
def test_a_colour_named_as_transparent_is_white(mode: str, colour) -> None:
    image = Image.new(mode, (2, 1), colour)
    image.putpixel((1, 0), 255 if mode != "RGB" else (255, 0, 0))
    rgb = to_rgb(reopened(image, "PNG", transparency=colour))
    assert rgb.getpixel((0, 0)) == (255, 255, 255)
    assert rgb.getpixel((1, 0)) == ((255, 0, 0) if mode == "RGB" else (255, 255, 255))


def ramp(*values: float, dtype: type) -> Image.Image:
    return Image.fromarray(np.array([values], dtype=dtype))


def greys(image: Image.Image) -> list[int]:
    return [value[0] for value in np.asarray(to_rgb(image))[0].tolist()]


@pytest.mark.parametrize("kind", ["PNG", "JPEG2000", "PPM"])
def test_a_16_bit_grey_does_not_clip_to_white(kind: str) -> None:
    image = Image.fromarray(np.repeat(np.linspace(0, 65535, 64).astype(np.uint16)[None], 64, axis=0))
    found = greys(reopened(image, kind))
    assert found == pytest.approx(np.linspace(0, 255, 64), abs=1)


def test_a_dark_16_bit_png_stays_dark() -> None:
    assert greys(reopened(ramp(0, 257, 514, dtype=np.uint16), "PNG")) == [0, 1, 2]


def test_a_16_bit_transparent_grey_is_white() -> None:
    assert greys(reopened(ramp(0, 300, 30000, dtype=np.uint16), "PNG", transparency=300)) == [0, 255, 117]


@pytest.mark.parametrize("white", [255, 1023, 4095, 16383, 65535])
def test_a_tiff_has_the_white_of_the_bits_in_use(white: int) -> None:
    assert greys(reopened(ramp(0, white // 2, white, dtype=np.uint16), "TIFF")) == [0, 127, 255]


def test_white_is_zero_in_a_tiff_that_says_so() -> None:
    assert greys(reopened(ramp(0, 65535, dtype=np.uint16), "TIFF", tiffinfo={262: 0})) == [255, 0]
    assert greys(reopened(ramp(0, 65535, dtype=np.uint16), "TIFF")) == [0, 255]


def test_big_endian_greys() -> None:
    image = Image.frombytes("I;16B", (2, 1), bytes([0, 0, 0xFF, 0xFF]))
    assert greys(image) == [0, 255]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0.0, 0.5, 1.0), [0, 128, 255]),
        ((0.0, 51.0, 255.0), [0, 51, 255]),
        ((0.0, 32768.0, 65535.0), [0, 128, 255]),
        ((-1.0, 0.0, 1.0), [0, 128, 255]),
        ((0.0, 1e5, 2e5), [0, 128, 255]),
        ((5.0, 5.0, 5.0), [5, 5, 5]),
        ((-5.0, -5.0, -5.0), [0, 0, 0]),
        ((np.nan, 0.0, 1.0), [0, 0, 255]),
        ((-np.inf, 0.5, np.inf), [0, 128, 255]),
        ((-3e38, 0.0, 3e38), [0, 0, 0]),
        ((np.nan, np.nan, np.nan), [0, 0, 0]),
    ],
)
def test_floats_by_their_range(values, expected: list[int]) -> None:
    assert greys(ramp(*values, dtype=np.float32)) == pytest.approx(expected, abs=1)


@pytest.mark.parametrize(
    ("values", "expected"),
    [((0, 51, 255), [0, 51, 255]), ((0, 32768, 65535), [0, 128, 255]), ((-100, 0, 100), [0, 128, 255])],
)
def test_integers_by_their_range(values, expected: list[int]) -> None:
    assert greys(ramp(*values, dtype=np.int32)) == pytest.approx(expected, abs=1)


@pytest.mark.parity
def test_transparency_as_transformers(importable) -> None:
    from transformers.image_transforms import convert_to_rgb

    values = np.random.default_rng(0).integers(0, 256, (40, 30, 4), dtype=np.uint8)
    image = Image.fromarray(values)
    assert np.array_equal(np.asarray(to_rgb(image)), convert_to_rgb(image, return_numpy=True))
