import io

import pytest
from PIL import Image

from tuwen.data.formats import FORMATS, HEAD, format_of_content, format_of_name

WRITABLE = (
    "JPEG",
    "PNG",
    "WEBP",
    "GIF",
    "AVIF",
    "TIFF",
    "BMP",
    "PPM",
    "JPEG2000",
    "ICO",
    "DDS",
    "SGI",
    "PCX",
    "XBM",
)


def written(name: str) -> bytes:
    mode = {"XBM": "1", "MSP": "1", "BLP": "P"}.get(name, "RGB")
    file = io.BytesIO()
    Image.new(mode, (32, 32)).save(file, name)
    return file.getvalue()


def named(head: bytes) -> str | None:
    found = format_of_content(head[:HEAD])
    return found.name if found else None


@pytest.mark.parametrize("name", WRITABLE)
def test_told_by_content(name: str) -> None:
    content = written(name)
    found = format_of_content(content[:HEAD])
    assert found is not None
    assert found.name == name
    assert found.open(io.BytesIO(content)).size[0] == 32


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"II\x2b\0\x08\0\0\0", "TIFF"),
        (b"MM\0\x2a\0\0\0\x08", "TIFF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIF"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIF"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "AVIF"),
        (b"\0\0\0\x1cftypavis\0\0\0\0avismsf1miaf", "AVIF"),
        (b"P5\n# a comment\n2 2\n255\n", "PPM"),
        (b"Pf\n2 2\n-1.0\n", "PPM"),
        (b"\xff\x4f\xff\x51\0\x2f", "JPEG2000"),
        (b"8BPS\0\x01", "PSD"),
        (b"\0\0\2\0\1\0\x20\x20\0\0", "CUR"),
        (b"SIMPLE  =                    T", "FITS"),
        (b"\xff\x0a\x01\x02", "JPEG XL"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "RAW"),
        (b"II*\0\x10\0\0\0CR\2\0", "RAW"),
        (b"FUJIFILMCCD-RAW 0201", "RAW"),
        (b"IIRO\x08\0\0\0", "RAW"),
        (b"IIU\0\x18\0\0\0", "RAW"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "EPS"),
        (b"\xd7\xcd\xc6\x9a\0\0", "WMF"),
        (b"\1\0\0\0" + bytes(36) + b" EMF", "EMF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'>", "SVG"),
    ],
)
def test_marks(head: bytes, name: str) -> None:
    assert named(head) == name


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"BMW is a car maker with a long history in Munich.",
        b"Python is a language",
        b"P2P networks",
        b"#define MAX_WIDTH 100\n#define MIN 3\n",
        b"\n\0\0 text that begins with an empty line",
        b"\0\0\2\0" + bytes(30),
        b"\0\0\1\0" + bytes(30),
        b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41",
        b"RIFF\x24\0\0\0WAVEfmt ",
        b"%PDF-1.7\n",
        b"%!PS-Adobe-3.0\n",
        b"PK\3\4",
        b"MZ\x90\0",
        b"\x7fELF",
        b"<?xml version='1.0'?>",
        bytes(HEAD),
    ],
)
def test_what_is_no_picture_is_taken_for_none(head: bytes) -> None:
    assert named(head) is None


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a.jpg", "JPEG"),
        ("A.JPEG", "JPEG"),
        ("x.y/photo.MPO", "JPEG"),
        ("scan.TIFF", "TIFF"),
        ("live.HEIC", "HEIF"),
        ("game.tga", "TGA"),
        (".png", "PNG"),
    ],
)
def test_told_by_ending(path: str, name: str) -> None:
    found = format_of_name(path)
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize("path", ["jpg", "notes.txt", "photo.jpg.part", "a.jpg/b", "", "photo."])
def test_other_endings(path: str) -> None:
    assert format_of_name(path) is None


def test_no_ending_has_two_formats() -> None:
    endings = [ending for found in FORMATS for ending in found.extensions.split()]
    assert len(endings) == len(set(endings))


def test_nothing_that_starts_a_program_is_read() -> None:
    readers = " ".join(found.reader for found in FORMATS)
    assert not any(name in readers for name in ("Eps", "Wmf", "Iptc", "Pdf", "Stub", "Mpeg", "Fpx", "Mic"))
    assert {found.name for found in FORMATS if found.unsupported} == {"EPS", "WMF", "EMF", "SVG"}
