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
    table, body, start = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for tag, content in tags:
        raw = content if isinstance(content, bytes) else b"XYZ " + bytes(4) + numbers(content)
        table += tag + struct.pack(">II", start + len(body), len(raw))
        body += raw + bytes(-len(raw) % 4)
    head = struct.pack(">I4xI4s4s4s12x4s", start + len(body), 0x02400000, b"mntr", b"RGB ", b"XYZ ", b"acsp")
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
