from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tuwen.data.decode import Picture, Reading
from tuwen.errors import InvalidInput
from tuwen.runtime.pipeline import decode
from tuwen.types import Rejected

READING = Reading(near=None, max_pixels=10**6)


def grey(level: int) -> Image.Image:
    return Image.fromarray(np.full((2, 2, 3), level, dtype=np.uint8))


@pytest.mark.parametrize("count", [0, 1, 4, 5, 40])
def test_pictures_come_in_order_and_in_batches(count: int) -> None:
    batches = list(decode([grey(level) for level in range(count)], READING, 4))
    assert [len(batch) for batch in batches] == [4] * (count // 4) + [count % 4] * (count % 4 > 0)
    pictures = [item for batch in batches for item in batch]
    assert all(isinstance(item, Picture) for item in pictures)
    assert [item.image.getpixel((0, 0))[0] for item in pictures] == list(range(count))


def test_what_cannot_be_read_is_called_by_its_path_or_its_number(tmp_path: Path) -> None:
    images = [grey(1), b"nonsense", tmp_path / "absent.png", str(tmp_path / "absent.jpg")]
    items = [item for batch in decode(images, READING, 3) for item in batch]
    assert [item.path for item in items if isinstance(item, Rejected)] == [
        "images[1]",
        str(tmp_path / "absent.png"),
        str(tmp_path / "absent.jpg"),
    ]


def test_a_caller_that_stops_early_leaves_nothing_behind() -> None:
    batches = decode([grey(level) for level in range(40)], READING, 4)
    assert len(next(batches)) == 4
    batches.close()


def test_one_picture_is_not_several() -> None:
    with pytest.raises(InvalidInput, match="put it into a list"):
        next(decode(grey(1), READING, 4))
