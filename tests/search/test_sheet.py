from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

import colours
from tuwen.errors import InvalidInput
from tuwen.search.sheet import CAPTION, CELL, EMPTY, GAP, contact_sheet
from tuwen.types import Hit


def hits(*paths: str) -> list[Hit]:
    return [Hit(str(place), 0.9 - place / 10, {"path": path}) for place, path in enumerate(paths)]


def middle(sheet, place: int, columns: int) -> tuple[int, ...]:
    row, column = divmod(place, columns)
    x = GAP + column * (CELL + GAP) + CELL // 2
    y = GAP + row * (CELL + CAPTION + GAP) + CELL // 2
    return sheet.getpixel((x, y))


def test_pictures_stand_in_rows_in_the_order_of_the_hits(tmp_path: Path) -> None:
    root = colours.make_photos(tmp_path / "相册", count=2)
    names = ("red", "green", "blue", "yellow")
    sheet = contact_sheet(hits(*(f"{n}/{n}-0.jpg" for n in names)), root, columns=3, max_pixels=10**6)
    assert sheet.mode == "RGB"
    assert sheet.size == (3 * (CELL + GAP) + GAP, 2 * (CELL + CAPTION + GAP) + GAP)
    for place, name in enumerate(names):
        strong = np.array(middle(sheet, place, 3)) > 128
        np.testing.assert_array_equal(strong, np.array(colours.COLOURS[name], bool))


def test_each_has_something_written_below_it(tmp_path: Path) -> None:
    root = colours.make_photos(tmp_path / "p", count=1)
    sheet = contact_sheet(hits("red/red-0.jpg", "blue/blue-0.jpg"), root, max_pixels=10**6)
    for place in range(2):
        x, y = GAP + place * (CELL + GAP), GAP + CELL + 1
        caption = np.asarray(sheet.crop((x, y, x + CELL, y + CAPTION)).convert("L"))
        assert (caption[:, : CELL // 2] < 100).any(), "the rank"
        assert (caption[:, CELL // 2 :] < 200).any(), "the score"
        assert (caption[-4:] == 255).all(), "it ends above the next row"


def test_a_picture_keeps_its_shape_and_fills_its_frame(tmp_path: Path) -> None:
    Image.new("RGB", (3000, 40), "red").save(tmp_path / "wide.png")
    sheet = np.asarray(contact_sheet(hits("wide.png"), tmp_path, max_pixels=10**6))
    assert ((sheet[..., 0] > 200) & (sheet[..., 1] < 60)).any(axis=0).sum() == CELL


def test_a_file_that_is_gone_is_an_empty_frame(tmp_path: Path) -> None:
    sheet = contact_sheet(hits("gone.jpg"), tmp_path, max_pixels=10**6)
    assert middle(sheet, 0, 1) == ImageColor.getrgb(EMPTY)


def test_without_hits_there_is_no_sheet(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as raised:
        contact_sheet([], tmp_path, max_pixels=10**6)
    assert raised.value.value == []
