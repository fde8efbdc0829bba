"""Images whose metadata is damaged or too large, and whose pixels are sound."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from tuwen.data.decode import Picture, Reading, read_image
from tuwen.data.repair import without_metadata
from tuwen.types import Rejected

READING = Reading(None, 10**8)
IMAGE = Image.effect_noise((60, 40), 50).convert("RGB")
LARGE = b"a" * 3_000_000


def encoded(kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    IMAGE.save(file, kind, **options)
    return file.getvalue()


PNG, JPEG = encoded("PNG"), encoded("JPEG")


def chunk(name: bytes, data: bytes, crc: int | None = None) -> bytes:
    check = zlib.crc32(name + data) if crc is None else crc
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)


def segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def check_pixels(content: bytes, expected: bytes) -> Picture:
    found, clean = (read_image(it, "image", READING) for it in (content, expected))
    assert isinstance(found, Picture), found
    assert isinstance(clean, Picture)
    assert np.array_equal(np.asarray(found.image), np.asarray(clean.image))
    return found


@pytest.mark.parametrize(
    "chunks",
    [
        chunk(b"tEXt", b"workflow\0" + LARGE),
        chunk(b"zTXt", b"workflow\0\0" + zlib.compress(LARGE)),
        chunk(b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(LARGE)),
        chunk(b"tEXt", b"x\0" + b"a" * 900_000) * 80,
        chunk(b"iCCP", b"scan\0\0" + zlib.compress(LARGE)),
        chunk(b"iCCP", b"profile\0\5junk"),
        chunk(b"zTXt", b"x\0\5junk"),
        chunk(b"tEXt", b"x\0y", crc=1),
        chunk(b"pHYs", b"1"),
        chunk(b"gAMA", b"1"),
        chunk(b"eXIf", b"junk"),
    ],
    ids=lambda chunks: repr(chunks[4:16]),
)
@pytest.mark.parametrize("place", [33, len(PNG) - 12], ids=["before", "after"])
def test_a_png(chunks: bytes, place: int) -> None:
    check_pixels(PNG[:place] + chunks + PNG[place:], PNG)


def test_a_png_keeps_its_orientation_and_transparency() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    IMAGE.quantize(8).save(file, "PNG", exif=exif, transparency=0)
    content = file.getvalue()
    found = check_pixels(content[:33] + chunk(b"zTXt", b"x\0\0" + zlib.compress(LARGE)) + content[33:], content)
    assert (found.width, found.height) == (40, 60)


@pytest.mark.parametrize(
    "segments",
    [
        segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + b"a" * 60_000) * 70,
        segment(0xE1, b"Exif\0\0MM\0*\0\0\0\x08" + b"\xff" * 50),
        segment(0xE1, b"Exif\0\0"),
        segment(0xED, b"Photoshop 3.0\x008BIM\x03\xed\0\0\0\0\0\x10abc"),
        segment(0xE2, b"ICC_PROFILE\0"),
        segment(0xE2, b"ICC_PROFILE\0\5\1" + b"x" * 300),
        segment(0xE2, b"MPF\0II*\0\xff\xff\xff\xff"),
        segment(0xE0, b"JFIF\0"),
        segment(0xFE, b"c" * 65_000) * 50,
    ],
    ids=lambda segments: repr(segments[4:16]),
)
def test_a_jpeg(segments: bytes) -> None:
    check_pixels(JPEG[:2] + segments + JPEG[2:], JPEG)


@pytest.mark.parametrize("kind", ["WEBP", "PNG"])
@pytest.mark.parametrize("metadata", [{"exif": b"Exif\0\0junk"}, {"exif": LARGE}, {"xmp": b"<junk" * 400_000}])
def test_other_metadata(kind: str, metadata: dict[str, bytes]) -> None:
    check_pixels(encoded(kind, **metadata), encoded(kind))


def test_a_tiff_of_thousands_of_tags() -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for number in range(33_000, 36_000):
        tags[number], tags.tagtype[number] = "x" * 20, 2
    check_pixels(encoded("TIFF", tiffinfo=tags), encoded("TIFF"))


def test_damaged_pixels_stay_damaged() -> None:
    metadata = chunk(b"zTXt", b"x\0\0" + zlib.compress(LARGE))
    content = PNG[:33] + metadata + PNG[33:-2000]
    assert isinstance(read_image(content, "image", READING), Rejected)


def test_what_has_nothing_to_remove_is_not_tried_again() -> None:
    assert without_metadata(b"GIF89a") is None
    stripped = without_metadata(PNG[:33] + chunk(b"tEXt", b"a\0b") + PNG[33:])
    assert stripped == PNG
    assert without_metadata(PNG) is None
