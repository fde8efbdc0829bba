import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from tuwen.data.decode import Reading, read_image
from tuwen.data.pillow_warnings import ignore_warnings

NOISY_TIFF = (
    b"II*\0\x08\0\0\0"
    b"\x05\0"
    b"\0\1\4\0\1\0\0\0\1\0\0\0"  # width 1
    b"\1\1\4\0\1\0\0\0\1\0\0\0"  # height 1
    b"\6\1\3\0\1\0\0\0\1\0\0\0"  # black is zero
    b"\x11\1\4\0\1\0\0\0\0\0\0\0"  # the pixels begin at 0
    b"\x0e\1\2\0\xff\0\0\0\xf0\0\0\0"  # a description beyond the end
    b"\0\0\0\0"
)
"""Pillow warns of the description, which is cut short"""


def noisy() -> None:
    """What makes Pillow warn: a palette with an alpha for each colour, converted without it."""
    image = Image.new("P", (1, 1))
    image.info["transparency"] = b"\0"
    image.convert("L")


def test_pillow_does_not_warn_inside_and_warns_outside() -> None:
    with ignore_warnings():
        noisy()
    with pytest.warns(UserWarning, match="Palette images with Transparency") as caught:
        noisy()
    assert "Image.py" in caught[0].filename


def test_blocks_may_be_nested() -> None:
    with ignore_warnings():
        with ignore_warnings():
            noisy()
        noisy()
    with pytest.warns(UserWarning, match="Palette"):
        noisy()


def test_an_error_ends_the_filter() -> None:
    with pytest.raises(KeyError), ignore_warnings():
        raise KeyError
    with pytest.warns(UserWarning, match="Palette"):
        noisy()


def test_other_threads_still_warn() -> None:
    caught: list[bool] = []

    def elsewhere() -> None:
        try:
            noisy()
        except UserWarning:  # an error in these tests
            caught.append(True)

    with ignore_warnings():
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert caught == [True]


def test_reading_in_many_threads_leaves_the_filters_alone() -> None:
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: read_image(NOISY_TIFF, "noisy.tif", Reading(None, 10**8)), range(200)))
    assert warnings.filters == before
    assert {getattr(result, "format", "rejected") for result in results} == {"TIFF"}


LIBTIFF = """
import io, sys
from PIL import Image
from tuwen.data.decode import Reading, read_image
from tuwen.data.pillow_warnings import silence_libtiff
if sys.argv[1] == "silent":
    silence_libtiff()
file = io.BytesIO()
Image.effect_noise((64, 64), 50).save(file, "TIFF", compression="tiff_lzw")
damaged = bytearray(file.getvalue())
damaged[8:108] = bytes([255]) * 100
print(read_image(bytes(damaged), "noise.tif", Reading(None, 10**8)).reason)
"""


def test_libtiff_prints_nothing_once_silenced() -> None:
    done = {
        how: subprocess.run([sys.executable, "-c", LIBTIFF, how], capture_output=True, text=True, check=True)
        for how in ("as it is", "silent")
    }
    assert done["as it is"].stdout == done["silent"].stdout
    assert done["silent"].stdout.strip()
    assert "not yet in table" in done["as it is"].stderr
    assert done["silent"].stderr == ""
