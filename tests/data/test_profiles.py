"""Colour profiles: what is not sRGB is converted, unless decoding is exact. The profiles are made here."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from tuwen.data.decode import Reading, read_image
from tuwen.types import Rejected

NEAR, EXACT = Reading(near=(32, 32), max_pixels=10**6), Reading(near=None, max_pixels=10**6, srgb=False)
D50 = (0.9642, 1.0, 0.8249)
P3 = ((0.5151, 0.2412, -0.0011), (0.2919, 0.6922, 0.0419), (0.1572, 0.0666, 0.7841))
ADOBE = ((0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446))


def numbers(values: tuple[float, ...]) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def profile(primaries: tuple[tuple[float, ...], ...]) -> bytes:
    """An ICC profile of version 2 with three primaries (XYZ, D50) and the gamma 2.2."""
    described = b"desc" + bytes(4) + struct.pack(">I", 5) + b"Wide" + bytes(79)
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(2.2 * 256))
    tags = [(b"desc", described), (b"cprt", b"text" + bytes(4) + b"none" + bytes(1)), (b"wtpt", D50)]
    tags += zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)
    tags += [(tag, curve) for tag in (b"rTRC", b"gTRC", b"bTRC")]
    return assembled(tags, b"mntr", b"RGB ", b"XYZ ")


INKS = {  # Lab of the inks of a press on paper, and of what they print over each other
    "": (100, 0, 0),
    "C": (55, -37, -50),
    "M": (48, 74, -3),
    "Y": (89, -5, 93),
    "CM": (24, 17, -46),
    "CY": (50, -65, 27),
    "MY": (47, 68, 48),
    "CMY": (23, 0, 0),
}


def press() -> bytes:
    """An ICC profile of version 2 of a CMYK press, with a table of two points for each ink; black covers everything."""
    ramp, table = bytes(range(256)), b""
    for number in range(16):
        inks = "".join(name for bit, name in zip((8, 4, 2), "CMY", strict=True) if number & bit)
        light, a, b = (8, 0, 0) if number & 1 else INKS[inks]
        table += bytes((round(light * 2.55), a + 128, b + 128))
    matrix = numbers((1, 0, 0, 0, 1, 0, 0, 0, 1))
    lut = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + matrix + 4 * ramp + table + 3 * ramp
    described = b"desc" + bytes(4) + struct.pack(">I", 6) + b"Press" + bytes(79)
    tags = [(b"desc", described), (b"cprt", b"text" + bytes(4) + b"none" + bytes(1)), (b"wtpt", D50), (b"A2B0", lut)]
    return assembled(tags, b"prtr", b"CMYK", b"Lab ")


def assembled(tags: list[tuple[bytes, object]], kind: bytes, space: bytes, connection: bytes) -> bytes:
    table, body, start = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for tag, content in tags:
        raw = content if isinstance(content, bytes) else b"XYZ " + bytes(4) + numbers(content)
        table += tag + struct.pack(">II", start + len(body), len(raw))
        body += raw + bytes(-len(raw) % 4)
    head = struct.pack(">I4xI4s4s4s12x4s", start + len(body), 0x02400000, kind, space, connection, b"acsp")
    return (head + bytes(28) + numbers(D50)).ljust(128, bytes(1)) + table + body


def saved(colour: tuple[int, ...] | int, icc: bytes | None, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, (64, 64), colour).save(file, "PNG", icc_profile=icc)
    return file.getvalue()


def pixel(content: bytes, reading: Reading = NEAR) -> tuple[int, ...]:
    picture = read_image(content, "a.png", reading)
    assert not isinstance(picture, Rejected)
    return picture.image.getpixel((5, 5))


@pytest.mark.parametrize("primaries", [P3, ADOBE], ids=["display-p3", "adobe-rgb"])
def test_wide_colours_are_converted_unless_decoding_is_exact(primaries: tuple[tuple[float, ...], ...]) -> None:
    icc = profile(primaries)
    content = saved((150, 100, 80), icc)
    red, _, blue = pixel(content)
    assert red > 153
    assert blue < 80
    assert pixel(content, EXACT) == (150, 100, 80)
    assert pixel(saved((150, 100, 80, 255), icc, "RGBA")) == pixel(content)
    np.testing.assert_allclose(pixel(saved((255, 255, 255), icc)), 255, atol=1)
    np.testing.assert_allclose(pixel(saved((0, 0, 0), icc)), 0, atol=1)


def test_srgb_and_damaged_profiles_change_nothing() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for icc in (None, srgb, b"nonsense" * 40):
        assert pixel(saved((200, 100, 50), icc)) == (200, 100, 50)


def test_a_profile_of_another_kind_of_image_is_ignored() -> None:
    assert pixel(saved(90, profile(P3), "L")) == (90, 90, 90)


@pytest.mark.parametrize(("kind", "name"), [("JPEG", "a.jpg"), ("TIFF", "a.tif")])
def test_cmyk_is_converted_by_its_profile_and_plainly_without_one(kind: str, name: str) -> None:
    def shown(icc: bytes | None, reading: Reading = NEAR) -> tuple[int, ...]:
        file = io.BytesIO()
        Image.new("CMYK", (64, 64), (255, 0, 0, 0)).save(file, kind, icc_profile=icc)
        picture = read_image(file.getvalue(), name, reading)
        assert not isinstance(picture, Rejected)
        return picture.image.getpixel((5, 5))

    red, green, blue = shown(press())  # the cyan of a press is darker than that of a screen
    assert red < 40
    assert 120 < green < 170
    assert 190 < blue < 240
    for icc, reading in ((None, NEAR), (None, EXACT), (press(), EXACT), (b"nonsense" * 40, NEAR), (profile(P3), NEAR)):
        np.testing.assert_allclose(shown(icc, reading), (0, 255, 255), atol=2)
