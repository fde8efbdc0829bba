"""Hits as one picture: a contact sheet that shows at a glance whether a search was good.

Only rank and score are written on it: no font at hand has the letters of every language. So texts are left out.
"""

from collections.abc import Sequence
from math import ceil
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from tuwen.data.decode import Picture, Reading, read_image
from tuwen.data.files import path_of
from tuwen.errors import InvalidInput
from tuwen.types import Hit

CELL = 180
"""pixels, the longest side of a picture on the sheet"""
GAP = 14
CAPTION = 30
PAPER, INK, FAINT, EMPTY = "#ffffff", "#202124", "#80868b", "#eceff1"


def contact_sheet(hits: Sequence[Hit], root: Path, *, columns: int = 6, max_pixels: int) -> Image.Image:
    """The pictures of the hits in rows, best first, each with its rank and score below it.

    Args:
        hits: at least one of a picture; texts among them are left out, and leave a gap in the ranks.
        root: the folder that the hits' paths are relative to.
        columns: pictures in a row.
        max_pixels: larger pictures are not opened.

    Returns:
        An RGB picture. A file that is gone or unreadable by now is an empty frame.

    Raises:
        InvalidInput: there is no picture.
    """
    pictures = [(rank, hit) for rank, hit in enumerate(hits, start=1) if hit.payload.get("type") != "text"]
    if not pictures:
        found = "only texts" if hits else "nothing"
        raise InvalidInput(f"there are no images to draw on a sheet: the search found {found}", value=hits)
    reading = Reading(near=(CELL, CELL), max_pixels=max_pixels)
    cells = []
    for rank, hit in pictures:
        path = str(hit.payload["path"])
        picture = read_image(path_of(path, root), path, reading)
        cells.append((picture.image if isinstance(picture, Picture) else None, f"{rank}", f"{hit.score:.3f}"))
    return grid(cells, columns=columns)


def grid(cells: Sequence[tuple[Image.Image | None, str, str]], *, columns: int = 6) -> Image.Image:
    """Pictures in rows, each with a word at the left and one at the right below it; None is an empty frame."""
    columns = min(columns, len(cells))
    wide, high = columns * (CELL + GAP) + GAP, ceil(len(cells) / columns) * (CELL + CAPTION + GAP) + GAP
    sheet = Image.new("RGB", (wide, high), PAPER)
    for place, (image, left, right) in enumerate(cells):
        row, column = divmod(place, columns)
        corner = (GAP + column * (CELL + GAP), GAP + row * (CELL + CAPTION + GAP))
        _paste(sheet, corner, image)
        _write(sheet, corner, left, right)
    return sheet


def _paste(sheet: Image.Image, corner: tuple[int, int], image: Image.Image | None) -> None:
    """Into the middle of a square; small pictures are not blown up beyond twice their size."""
    x, y = corner
    ImageDraw.Draw(sheet).rectangle((x, y, x + CELL - 1, y + CELL - 1), fill=EMPTY)
    if image is None:
        return
    scale = min(CELL / max(image.size), 2.0)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    small = image.resize(size, Image.Resampling.BICUBIC)
    sheet.paste(small, (x + (CELL - small.width) // 2, y + (CELL - small.height) // 2))


def _write(sheet: Image.Image, corner: tuple[int, int], rank: str, score: str) -> None:
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(16)
    y = corner[1] + CELL + 6
    draw.text((corner[0], y), rank, fill=INK, font=font)
    draw.text((corner[0] + CELL, y), score, fill=FAINT, font=font, anchor="ra")
