import io

import numpy as np
import pytest
from PIL import Image

from tuwen.data.exif import apply_orientation, orient_box, orientation_of, swaps_axes

TURNS = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: upright.transpose(1, 0, 2)[::-1],
    7: lambda upright: upright.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda upright: upright.transpose(1, 0, 2)[:, ::-1],
}
"""how a camera stores an upright picture under each orientation, from the EXIF standard (row 0, column 0)"""


def with_orientation(image: Image.Image, value: int, kind: str) -> Image.Image:
    exif = Image.Exif()
    exif[0x0112] = value
    file = io.BytesIO()
    image.save(file, kind, exif=exif)
    return Image.open(file)


@pytest.mark.parametrize("orientation", TURNS)
def test_each_orientation(orientation: int) -> None:
    upright = np.random.default_rng(0).integers(0, 256, (3, 5, 3), dtype=np.uint8)
    stored = with_orientation(Image.fromarray(TURNS[orientation](upright).copy()), orientation, "PNG")
    assert orientation_of(stored) == orientation
    assert swaps_axes(orientation) == (stored.size == (3, 5))
    assert np.array_equal(np.asarray(apply_orientation(stored, orientation)), upright)


@pytest.mark.parametrize("orientation", TURNS)
def test_a_box_goes_where_its_pixels_go(orientation: int) -> None:
    left, top, right, bottom = 1, 0, 4, 2
    inside = np.zeros((3, 5, 3), dtype=np.uint8)
    inside[top:bottom, left:right] = 255
    image = apply_orientation(Image.fromarray(inside), orientation)
    assert orient_box((left, top, right, bottom), (5, 3), orientation) == image.getbbox()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_formats_that_leave_turning_to_the_reader(kind: str) -> None:
    image = with_orientation(Image.new("RGB", (32, 16)), 6, kind)
    image.load()
    assert orientation_of(image) == 6


def test_a_tiff_is_turned_by_its_reader() -> None:
    image = with_orientation(Image.new("RGB", (32, 16)), 6, "TIFF")
    image.load()
    assert (orientation_of(image), image.size) == (1, (16, 32))


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_impossible_orientations_are_upright(value: int) -> None:
    assert orientation_of(with_orientation(Image.new("RGB", (4, 4)), value, "PNG")) == 1


def test_damaged_exif_is_upright() -> None:
    image = Image.new("RGB", (4, 4))
    image.info["exif"] = b"Exif\0\0no header of a TIFF"
    assert orientation_of(image) == 1
    assert orientation_of(Image.new("RGB", (4, 4))) == 1
