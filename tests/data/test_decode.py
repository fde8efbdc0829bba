import errno
import io
import os
import struct
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tuwen.data.decode import (
    GAP,
    MAX_SCANS,
    MAX_SLOW_PIXELS,
    Original,
    Picture,
    Reading,
    original_of,
    read_image,
    reading_for,
)
from tuwen.types import Rejected

from .test_pixels import spec_of

LIMIT = 178_956_970
EXACT = Reading(None, LIMIT)
FAST = Reading((224, 224), LIMIT)


def picture(content, reading: Reading = EXACT, path: str = "picture") -> Picture:
    found = read_image(content, path, reading)
    assert isinstance(found, Picture), found
    assert found.image.mode == "RGB"
    assert not found.image.has_transparency_data
    return found


def reason(content, reading: Reading = EXACT, path: str = "picture") -> str:
    found = read_image(content, path, reading)
    assert isinstance(found, Rejected), found
    assert found.path == path
    return found.reason


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@cache
def smooth(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Waves of all directions, so that a turn, a shift or a stretch shows."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    waves = [np.sin(7 * x + 3 * y), np.cos(5 * y - 2 * x), np.sin(9 * x * y)]
    return Image.fromarray((127.5 + 127.5 * np.stack(waves, axis=-1)).astype(np.uint8)).convert(mode)


def png(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG that claims a size, with pixels or without."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def encoded_noise() -> bytes:
    return encoded(Image.effect_noise((64, 64), 50), "PNG")


# What is read


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "BMP", "PPM", "JPEG2000", "QOI"])
def test_lossless_formats_come_back_exactly(kind: str) -> None:
    image = smooth(40, 30)
    found = picture(encoded(image, kind, **({"lossless": True} if kind == "WEBP" else {})))
    assert (found.format, found.width, found.height) == (kind, 40, 30)
    assert np.array_equal(np.asarray(found.image), np.asarray(image))


def test_content_counts_and_not_the_ending() -> None:
    assert picture(encoded(smooth(9, 9), "PNG"), path="a.jpg").format == "PNG"
    assert picture(encoded(smooth(9, 9), "JPEG"), path="a.txt").format == "JPEG"


def test_bytes_files_and_pillow_images_agree(tmp_path) -> None:
    content = encoded(smooth(60, 40), "JPEG", quality=90)
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    found = [picture(source) for source in (content, path, Image.open(path))]
    assert len({np.asarray(one.image).tobytes() for one in found}) == 1
    assert {(one.width, one.height, one.format) for one in found} == {(60, 40, "JPEG")}


def test_a_pillow_image_is_not_changed() -> None:
    image = smooth(2100, 1400).convert("RGBA")
    image.getexif()[0x0112] = 6
    before = image.tobytes()
    found = picture(image, FAST)
    assert (found.width, found.height, found.format) == (1400, 2100, "")
    assert (image.mode, image.size, image.tobytes()) == ("RGBA", (2100, 1400), before)
    assert image.getexif()[0x0112] == 6


def test_what_was_read_may_be_read_again() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for reading in (EXACT, FAST):
        once = picture(encoded(smooth(1003, 751), exif=exif), reading).image
        again = picture(once, reading).image
        assert np.array_equal(np.asarray(once), np.asarray(again))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_the_first_frame_of_many(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    found = picture(encoded(frames[0], kind, save_all=True, append_images=frames[1:]))
    assert found.image.getpixel((8, 8)) == pytest.approx((255, 0, 0), abs=3)


# Reduced scale


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_jpeg_at_reduced_scale(mode: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(smooth(1203, 901, mode), quality=95, exif=exif)
    exact, fast = picture(content), picture(content, Reading((112, 112), LIMIT))
    assert (fast.width, fast.height) == (exact.width, exact.height) == exact.image.size
    assert fast.image.width * 2 <= exact.image.width + 1
    assert min(fast.image.size) >= GAP * 112
    whole = original_of(fast.image)
    assert (whole.width, whole.height) == exact.image.size
    pair = [
        one.image.resize((64, 64), Image.Resampling.BICUBIC, box=original_of(one.image).box) for one in (exact, fast)
    ]
    assert np.abs(np.subtract(*[np.asarray(image, dtype=float) for image in pair])).mean() < 0.6


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("near", [(224, 224), (64, 200), (200, 64), (1, 1), (1000, 10)])
@pytest.mark.parametrize("size", [(900, 700), (2000, 450), (449, 2000), (448, 448), (30, 20)])
def test_never_below_what_the_resize_needs(kind: str, near: tuple[int, int], size: tuple[int, int]) -> None:
    found = picture(encoded(smooth(*size), kind), Reading(near, LIMIT))
    assert found.image.width >= min(size[0], GAP * near[1])
    assert found.image.height >= min(size[1], GAP * near[0])
    assert (found.width, found.height) == size


def test_what_a_reduced_image_stands_for_is_forgotten_with_its_size() -> None:
    found = picture(encoded(smooth(2403, 1801)), FAST)
    whole = original_of(found.image)
    assert whole.box == pytest.approx((0, 0, 2403 / 2, 1801 / 2))
    assert found.image.size == (1202, 901)
    smaller = found.image.resize((10, 10))
    assert original_of(smaller) == Original(10, 10, (0, 0, 10, 10), (10, 10))


def test_reading_for_a_model() -> None:
    assert reading_for(spec_of(), exact=False, max_pixels=7) == Reading((224, 224), 7, metadata=True)
    assert reading_for(spec_of(edge=256), exact=False, max_pixels=7) == Reading((256, 256), 7, metadata=True)
    full = Reading(None, 7, metadata=True)
    assert reading_for(spec_of(), exact=False, max_pixels=7, reduced=False) == full
    assert reading_for(spec_of(), exact=True, max_pixels=7) == replace(full, srgb=False)


@pytest.mark.parametrize(("kind", "scale"), [("JPEG", 4), ("PNG", 1)])
def test_only_jpegs_are_reduced(kind: str, scale: int) -> None:
    """Reduced by a box filter, other formats would save little time and cost more of the vector."""
    found = picture(encoded(smooth(1600, 1600), kind), Reading((100, 100), LIMIT))
    assert found.image.size == (1600 // scale, 1600 // scale)


# What is rejected


def test_truncated_anywhere() -> None:
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "AVIF", "QOI", "JPEG2000"):
        content = encoded(smooth(64, 48), kind)
        for part in (0.02, 0.1, 0.5, 0.9):
            assert reason(content[: int(len(content) * part)], path="a." + kind.lower())


def test_damaged_anywhere() -> None:
    """Whatever is wrong with a file, the outcome is a picture or a reason."""
    random = np.random.default_rng(0)
    for kind in (
        "JPEG",
        "PNG",
        "WEBP",
        "GIF",
        "TIFF",
        "BMP",
        "PPM",
        "AVIF",
        "ICO",
        "JPEG2000",
        "PCX",
        "SGI",
        "DDS",
    ):
        content = np.frombuffer(encoded(smooth(64, 48), kind), dtype=np.uint8)
        for _ in range(40):
            damaged = content.copy()
            places = random.integers(0, len(content), size=random.integers(1, 30))
            damaged[places] = random.integers(0, 256, size=len(places))
            found = read_image(damaged.tobytes(), "a." + kind.lower(), FAST)
            assert isinstance(found, Picture) or found.reason


@pytest.mark.parametrize(
    ("content", "path", "named"),
    [
        (b"", "a.jpg", ""),
        (b"hello", "a.jpg", "JPEG"),
        (b"hello", "a.txt", ""),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "a.jpg", "EPS"),
        (b"hello", "a.svg", "SVG"),
        (b"GIF89a", "a.gif", ""),
        (png(0, 9), "a.png", ""),
        (png(9, 9), "a.png", ""),
        (encoded_noise()[:-3000], "a.png", ""),
    ],
)
def test_what_is_no_image_is_rejected(content: bytes, path: str, named: str) -> None:
    """The reason names the format that the content or the extension claims."""
    assert named in reason(content, path=path)


def test_a_bomb_is_rejected_unopened() -> None:
    assert "max_pixels=178,956,970" in reason(png(20_000, 20_000))
    assert "60000x60000" in reason(png(60_000, 60_000), FAST)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_the_limit_is_ours_and_not_pillows(monkeypatch, kind: str) -> None:
    content = encoded(smooth(30, 20), kind)
    assert "max_pixels=599" in reason(content, Reading(None, 599))
    assert "max_pixels=599" in reason(Image.open(io.BytesIO(content)), Reading(None, 599))
    assert picture(content, Reading(None, 600)).width == 30
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)  # Pillow warns above, and warnings are errors here
    assert picture(content, Reading(None, 600)).width == 30


def test_an_icon_has_the_size_of_what_is_in_it() -> None:
    small, large = encoded(smooth(16, 16), "ICO"), encoded(smooth(64, 64), "PNG")
    entry = struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(large), 22)
    assert picture(small).width == 16
    assert picture(entry + large).width == 64
    assert "4,096" in reason(entry + large, Reading(None, 1000))


def test_formats_that_are_decoded_slowly_have_a_limit_of_their_own() -> None:
    header = b"qoif" + struct.pack(">IIBB", 4097, 4096, 3, 0)
    assert f"{MAX_SLOW_PIXELS:,}" in reason(header)
    assert f"{MAX_SLOW_PIXELS:,}" not in reason(b"qoif" + struct.pack(">IIBB", 4096, 4096, 3, 0))


def test_a_jpeg_of_endless_scans() -> None:
    content = encoded(smooth(64, 64), progressive=True)
    last = content.rindex(b"\xff\xda")
    scan = content[last:-2]
    bomb = content[:-2] + scan * MAX_SCANS + b"\xff\xd9"
    assert picture(content).width == 64
    assert f"{MAX_SCANS}" in reason(bomb)


def test_a_file_that_cannot_be_opened(tmp_path) -> None:
    assert os.strerror(errno.ENOENT) in reason(tmp_path / "a.jpg")
    assert reason(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes in folders")
@pytest.mark.timeout(20)
def test_a_pipe_is_not_waited_for(tmp_path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    assert reason(tmp_path / "a.jpg")


def test_many_threads_agree() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    contents = [
        encoded(smooth(900, 700), quality=90, exif=exif),
        encoded(smooth(90, 70).convert("RGBA"), "PNG"),
        encoded(smooth(90, 70).quantize(), "GIF"),
        encoded(smooth(90, 70), "TIFF")[:-1000],
    ]

    def read(index: int) -> object:
        found = read_image(contents[index % 4], "x", FAST)
        return found.reason if isinstance(found, Rejected) else found.image.tobytes()

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(read, range(160)))
    assert all(result == results[index % 4] for index, result in enumerate(results))


# Real files


def read_both(path: Path) -> tuple[Picture | Rejected, Picture | Rejected]:
    return read_image(path, path.name, EXACT), read_image(path, path.name, FAST)


@pytest.mark.timeout(120)
def test_odd_files_are_pictures_or_have_a_reason(shared_data) -> None:
    paths = [path for path in sorted((shared_data / "odd_images").rglob("*")) if path.is_file()]
    assert len(paths) > 650
    with ThreadPoolExecutor(2) as pool:
        results = dict(zip(paths, pool.map(read_both, paths), strict=True))
    pictures = {path.name for path, (exact, _) in results.items() if isinstance(exact, Picture)}
    assert len(pictures) >= 520
    for path, (exact, fast) in results.items():
        assert type(exact) is type(fast), path
        if isinstance(exact, Picture):
            assert exact.image.mode == "RGB"
            assert exact.image.size == (exact.width, exact.height) == (fast.width, fast.height), path
        else:
            assert exact.reason
            assert len(exact.reason) < 160
    assert pictures >= {"hopper.webp", "hopper.avif", "pug.heic", "16bit.cropped.jp2", "pil_sample_cmyk.jpg"}
    assert pictures.isdisjoint({"truncated_image.png", "1.eps", "drawing.wmf", "200MP.heic", "zero_width.gif"})


def test_the_small_collection_is_read_whole(shared_data) -> None:
    paths = [path for path in (shared_data / "formats").rglob("*") if path.is_file() and path.suffix != ".txt"]
    formats = {picture(path, path=path.name).format for path in paths}
    assert formats == {"BMP", "GIF", "HEIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP"}  # its .jp2 is a JPEG


@pytest.mark.parametrize("reading", [EXACT, FAST], ids=["exact", "fast"])
@pytest.mark.parametrize("name", ["Landscape", "Portrait"])
def test_nine_orientations_are_one_picture(shared_data, name: str, reading: Reading) -> None:
    found = [picture(shared_data / "exif_orientation" / f"{name}_{index}.jpg", reading) for index in range(9)]
    assert {(one.width, one.height) for one in found} == {(1800, 1200) if name == "Landscape" else (1200, 1800)}
    small = [np.asarray(one.image.resize((64, 64), box=original_of(one.image).box), dtype=float) for one in found]
    worst = max(np.abs(one - other).mean() for one in small for other in small)
    assert worst < 1  # right ones differ by under 1 of 255, wrong ones by over 35


def test_heic_and_its_jpeg_are_one_picture(shared_data) -> None:
    folder = shared_data / "formats" / "images_heic"
    small = [
        np.asarray(picture(folder / f"bee.{ending}").image.resize((64, 64)), dtype=float) for ending in ("heic", "jpg")
    ]
    assert np.abs(small[0] - small[1]).mean() < 2


def test_a_jpeg_counts_as_many_pixels_as_it_is_reduced_to() -> None:
    content, small = encoded(smooth(1600, 1200)), Reading((100, 100), 1600 * 1200 - 1)
    assert (picture(content, small).width, picture(content, small).height) == (1600, 1200)
    assert "max_pixels" in reason(content, Reading(None, small.max_pixels))
    assert "max_pixels" in reason(content, Reading((100, 100), 400 * 300 - 1))
    assert "max_pixels" in reason(encoded(smooth(1600, 1200), progressive=True), small)  # it is held as a whole


def animation(kind: str, *colours: tuple[int, int, int] | Image.Image) -> bytes:
    frames = [it if isinstance(it, Image.Image) else Image.new("RGB", (64, 48), it) for it in colours]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=100, lossless=True)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_of_an_animation_the_first_frame_that_shows_something_is_read(kind: str) -> None:
    first, second = smooth(64, 48), smooth(64, 48).transpose(Image.Transpose.ROTATE_180)
    for blanks in ((), ((0, 0, 0),), ((255, 255, 255), (0, 0, 0))):
        image = picture(animation(kind, *blanks, first, second)).image
        assert np.abs(np.asarray(image, int) - np.asarray(first, int)).mean() < 30  # GIF has few colours


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_an_animation_without_anything_to_show_is_its_first_frame(kind: str) -> None:
    assert picture(animation(kind, (0, 0, 0), (1, 1, 1))).image.getpixel((0, 0)) == (0, 0, 0)


def test_the_frames_looked_at_are_bounded() -> None:
    content = animation("GIF", (0, 0, 0), (9, 9, 9), smooth(64, 48))
    assert picture(content, Reading(None, 2 * 64 * 48)).image.getpixel((5, 5)) != smooth(64, 48).getpixel((5, 5))


def test_large_images_in_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuwen.data.decode.LARGE_PIXELS", 1)
    contents = [encoded(smooth(64, 48), kind) for kind in ("JPEG", "PNG", "WEBP")] * 4 + [b"\xff\xd8\xff"]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda content: read_image(content, "a", EXACT), contents))
    assert [isinstance(one, Picture) for one in found] == [True] * 12 + [False]
