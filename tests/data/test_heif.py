import io

import numpy as np
import pytest
from PIL import Image

from tuwen.data.decode import Picture, Reading, open_heif, read_image
from tuwen.types import Rejected

READING = Reading(None, 10**8)


def entry(*parts: bytes, version: int = 2) -> bytes:
    content = b"infe" + bytes([version, 0, 0, 0]) + bytes(4 if version < 3 else 6) + b"\0".join(parts) + b"\0"
    return (len(content) + 4).to_bytes(4, "big") + content


@pytest.mark.parametrize(
    "bad",
    [
        entry(b"mimename", b"application/\x8d"),
        entry(b"\xff\xfe\x00\x01"),
        entry(b"mimename", b"\xff", version=3),
        entry(b"name", b"\xff", version=0),
    ],
)
def test_an_item_whose_type_is_no_text_is_refused_before_pi_heif_sees_it(bad: bytes) -> None:
    good = entry(b"hvc1") + entry(b"mime", b"application/rdf+xml")
    with pytest.raises(ValueError, match="UTF-8"):
        open_heif(io.BytesIO(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + good + bad))


def test_real_files_with_every_type_damaged(shared_data) -> None:
    """Each of these bytes has ended the process, or might have."""
    damaged = 0
    for path in sorted((shared_data / "odd_images" / "heif").rglob("*.hei?")):
        content = path.read_bytes()
        for name in (b"mime\0application", b"mime\0\0application"):
            place = content.find(name)
            if place >= 0:
                broken = content[: place + 8] + b"\x8d" + content[place + 9 :]
                assert isinstance(read_image(broken, path.name, READING), Rejected)
                damaged += 1
    assert damaged > 3


def test_nothing_is_registered_with_pillow(shared_data) -> None:
    path = shared_data / "formats" / "images_heic" / "bee.heic"
    assert isinstance(read_image(path, path.name, READING), Picture)
    assert "HEIF" not in Image.OPEN


def test_turned_by_its_reader_and_not_again(shared_data) -> None:
    folder = shared_data / "odd_images" / "heif"
    found = read_image(next(folder.rglob("pug.heic")), "pug.heic", READING)
    assert isinstance(found, Picture)
    assert found.image.size == (found.width, found.height)
    assert found.image.getexif().get(0x0112, 1) == 1


@pytest.mark.parametrize("name", ["RGB_12__128x128", "RGBA_10__128x128"])
def test_more_bits_are_scaled_to_eight(shared_data, name: str) -> None:
    """Ramps from black to white: neither dark nor clipped."""
    found = read_image(shared_data / "odd_images" / "heif" / "heif" / f"{name}.heif", name, READING)
    assert isinstance(found, Picture)
    levels = np.asarray(found.image.convert("L"))
    assert levels.max() - levels.min() > 150
    assert len(np.unique(levels)) > 100


def test_grey_that_is_only_said_to_be_deep_is_not_decoded(shared_data) -> None:
    """Its 8-bit pixels would be written over as if there were 15 bits of each."""
    path = next((shared_data / "odd_images" / "heif").rglob("L_exif_xmp_iptc.heic"))
    content = bytearray(path.read_bytes())
    assert isinstance(read_image(bytes(content), path.name, READING), Picture)
    content[content.index(b"hvcC") + 4 + 17] |= 7  # bitDepthLumaMinus8
    reason = read_image(bytes(content), path.name, READING).reason
    assert "8 bits" in reason
