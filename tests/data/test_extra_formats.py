"""RAW files of cameras and JPEG XL: read with their extras, and told apart from TIFF without them."""

import io
import struct
import sys
from datetime import datetime

import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import Base

from tuwen.data.decode import Picture, Reading, read_image, read_metadata_of
from tuwen.data.extra_formats import _exif_by_libraw
from tuwen.data.formats import format_of, format_of_name
from tuwen.types import Rejected

READING = Reading((224, 224), 10**8)
ASCII, SHORT, LONG, RATIONAL, SIGNED = 2, 3, 4, 5, 10
CODES = {ASCII: "B", SHORT: "H", LONG: "I", RATIONAL: "II", SIGNED: "ii"}
Tags = dict[int, tuple[int, list[int]]]


def directory(tags: Tags, place: int) -> bytes:
    """A TIFF directory at an offset, with the values that do not fit into it behind it."""
    entries, behind = b"", b""
    for tag, (kind, values) in sorted(tags.items()):
        raw = struct.pack(f"<{len(values)}{CODES[kind][0]}", *values)
        if len(raw) > 4:
            raw, behind = struct.pack("<I", place + 6 + 12 * len(tags) + len(behind)), behind + raw
        count = len(values) // len(CODES[kind])
        entries += struct.pack("<HHI4s", tag, kind, count, raw)
    return struct.pack("<H", len(tags)) + entries + bytes(4) + behind


def image_tags(size: tuple[int, int], place: int, count: int, **more: int) -> Tags:
    compression, photometric, samples, bits = (more[name] for name in ("compression", "photometric", "samples", "bits"))
    return {
        256: (LONG, [size[0]]),
        257: (LONG, [size[1]]),
        258: (SHORT, [bits] * samples),
        259: (SHORT, [compression]),
        262: (SHORT, [photometric]),
        273: (LONG, [place]),
        277: (SHORT, [samples]),
        278: (LONG, [size[1]]),
        279: (LONG, [count]),
    }


def dng(preview: bytes | None, orientation: int = 1) -> bytes:
    """A photo of 1600 by 1200 whose left upper quarter is bright; its thumbnail is red, its preview as given."""
    values = np.full((1200, 1600), 9000, "<u2")
    values[:600, :800] = 60000
    thumbnail, raw = bytes((255, 0, 0)) * 16 * 12, values.tobytes()
    file = b"II*\0" + bytes(4) + thumbnail + raw + (preview or b"")
    inner = [
        {254: (LONG, [0])}
        | image_tags((1600, 1200), 8 + len(thumbnail), len(raw), compression=1, photometric=32803, samples=1, bits=16)
        | {33421: (SHORT, [2, 2]), 33422: (LONG, [0x02010100]), 50717: (LONG, [65535])}
    ]
    if preview:
        place = 8 + len(thumbnail) + len(raw)
        size = Image.open(io.BytesIO(preview)).size
        shown = image_tags(size, place, len(preview), compression=7, photometric=6, samples=3, bits=8)
        inner.append({254: (LONG, [1])} | shown)
    places = []
    for tags in inner:
        places.append(len(file))
        file += directory(tags, len(file))
    exif = len(file)
    file += directory({34855: (SHORT, [400]), 36867: (ASCII, [*b"2023:07:01 12:00:00\0"])}, exif)
    identity = [value for row in np.eye(3, dtype=int) for one in row for value in (int(one), 1)]
    main = image_tags((16, 12), 8, len(thumbnail), compression=1, photometric=2, samples=3, bits=8) | {
        254: (LONG, [1]),
        274: (SHORT, [orientation]),
        271: (ASCII, [*b"Canon\0"]),
        272: (ASCII, [*b"Canon EOS R5\0"]),
        330: (LONG, places),
        34665: (LONG, [exif]),
        50706: (LONG, [0x401]),
        50721: (SIGNED, identity),
        50728: (RATIONAL, [1, 1, 1, 1, 1, 1]),
    }
    start = len(file)
    file += directory(main, start)
    content = file[:4] + struct.pack("<I", start) + file[8:]
    return content.replace(struct.pack("<HHI", 33422, LONG, 1), struct.pack("<HHI", 33422, 1, 4)).replace(
        struct.pack("<HHI", 50706, LONG, 1), struct.pack("<HHI", 50706, 1, 4)
    )


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def quartered(size: tuple[int, int]) -> Image.Image:
    """Blue, with a yellow left upper quarter."""
    image = Image.new("RGB", size, (0, 0, 255))
    image.paste((255, 255, 0), (0, 0, size[0] // 2, size[1] // 2))
    return image


def read(content: bytes, name: str = "") -> Picture:
    found = read_image(content, name, READING)
    assert isinstance(found, Picture), found
    return found


def corner(picture: Picture, x: float, y: float) -> tuple[int, ...]:
    return picture.image.getpixel((int(x * picture.image.width), int(y * picture.image.height)))


@pytest.mark.parametrize("name", ["photo.dng", "photo.NEF", "photo.tif", "upload"])
def test_the_preview_of_a_raw_file_is_read_and_not_its_thumbnail(name: str) -> None:
    pytest.importorskip("rawpy", reason="the extra `raw` is not installed")
    found = read(dng(encoded(quartered((1600, 1200)))), name)
    assert (found.width, found.height, found.format) == (1600, 1200, "RAW")
    assert np.allclose(corner(found, 0.2, 0.2), (255, 255, 0), atol=12)
    assert np.allclose(corner(found, 0.8, 0.8), (0, 0, 255), atol=12)


def test_the_preview_is_turned_upright() -> None:
    pytest.importorskip("rawpy", reason="the extra `raw` is not installed")
    found = read(dng(encoded(quartered((1600, 1200))), orientation=6), "photo.dng")
    assert (found.width, found.height) == (1200, 1600)
    assert np.allclose(corner(found, 0.8, 0.2), (255, 255, 0), atol=12)


@pytest.mark.parametrize("preview", [None, (1600, 1200)])
def test_the_metadata_of_a_raw_file_is_read(preview: tuple[int, int] | None) -> None:
    pytest.importorskip("rawpy", reason="the extra `raw` is not installed")
    content = dng(preview and encoded(quartered(preview)), orientation=6)
    found = read_metadata_of(content, "photo.dng")
    assert not isinstance(found, Rejected)
    assert (found["camera"], found["iso"], found["orientation"]) == ("Canon EOS R5", 400, 6)
    assert found["taken"] == datetime(2023, 7, 1, 12).timestamp()


def test_what_libraw_tells_where_a_raw_file_is_no_tiff() -> None:
    rawpy = pytest.importorskip("rawpy", reason="the extra `raw` is not installed")
    with rawpy.imread(io.BytesIO(dng(None))) as raw:
        exif = _exif_by_libraw(raw)
    assert (exif[Base.DateTimeOriginal], exif[Base.ISOSpeedRatings]) == ("2023:07:01 12:00:00", 400)


@pytest.mark.parametrize("preview", [None, (160, 120)])
def test_a_raw_file_with_a_thumbnail_only_is_developed(preview: tuple[int, int] | None) -> None:
    pytest.importorskip("rawpy", reason="the extra `raw` is not installed")
    found = read(dng(preview and encoded(quartered(preview))), "photo.dng")
    assert (found.width, found.height) == (800, 600)
    assert min(corner(found, 0.2, 0.2)) > max(corner(found, 0.8, 0.8))


def test_a_damaged_raw_file_is_rejected() -> None:
    pytest.importorskip("rawpy", reason="the extra `raw` is not installed")
    for content in (dng(None)[:600], b"FUJIFILMCCD-RAW " + bytes(200), b"\0\0\0\x18ftypcrx " + bytes(200)):
        assert isinstance(read_image(content, "photo.raf", READING), Rejected)


@pytest.mark.parametrize("extension", ["CR2", "CR3", "NEF", "ARW", "RAF", "DNG", "ORF", "RW2"])
def test_raw_files_of_all_makers_are_recognised(extension: str) -> None:
    found = format_of_name(f"DSC_0001.{extension}")
    assert found is not None
    assert found.name == "RAW"
    assert format_of(b"II*\0\x08\0\0\0" + bytes(56), f"DSC_0001.{extension}") is found


@pytest.mark.parametrize(("package", "extra", "name"), [("rawpy", "raw", "a.dng"), ("pylibjxl", "jxl", "a.jxl")])
def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, package: str, extra: str, name: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    content = {"raw": dng(encoded(quartered((1600, 1200)))), "jxl": b"\xff\x0a" + bytes(64)}[extra]
    found = read_image(content, name, READING)
    assert isinstance(found, Rejected)
    assert f"pip install 'tuwen[{extra}]'" in found.reason


def test_a_tiff_of_several_sizes_is_still_a_tiff() -> None:
    assert read(encoded(quartered((64, 48)), "TIFF"), "scan.tif").format == "TIFF"


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_jpeg_xl_is_read(mode: str) -> None:
    pylibjxl = pytest.importorskip("pylibjxl", reason="the extra `jxl` is not installed")
    values = np.ascontiguousarray(np.asarray(quartered((320, 240)).convert(mode)))
    found = read(pylibjxl.encode(values if values.ndim == 3 else values[..., None], lossless=True), "a.jxl")
    expected = quartered((320, 240)).convert(mode).convert("RGB")
    assert (found.width, found.height, found.format) == (320, 240, "JPEG XL")
    assert np.array_equal(np.asarray(found.image), np.asarray(expected))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_jpeg_xl_is_applied_once(orientation: int) -> None:
    pylibjxl = pytest.importorskip("pylibjxl", reason="the extra `jxl` is not installed")
    exif = Image.Exif()
    exif[274] = orientation
    content = encoded(quartered((320, 240)), exif=exif)
    ours, theirs = read(pylibjxl.jpeg_to_jxl(content), "a.jxl"), read(content, "a.jpg")
    assert (ours.width, ours.height) == (theirs.width, theirs.height)
    for place in ((0.1, 0.1), (0.9, 0.1), (0.1, 0.9), (0.9, 0.9)):
        assert np.allclose(corner(ours, *place), corner(theirs, *place), atol=12)


def test_a_huge_jpeg_xl_is_refused_by_its_header() -> None:
    pylibjxl = pytest.importorskip("pylibjxl", reason="the extra `jxl` is not installed")
    content = pylibjxl.encode(np.zeros((400, 400, 3), np.uint8))
    found = read_image(content, "a.jxl", Reading(None, 400 * 399))
    assert isinstance(found, Rejected)
    assert "max_pixels" in found.reason
