"""Writes the gallery: one small picture of every emoji, drawn by Noto, on an off-white ground.

Knows drawings and file names. Does not know the model.
"""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from recipes.emoji.glyphs import noto, square
from recipes.emoji.words import Emoji

SIDE = 128
MARGIN = 8
GROUND = (250, 249, 246)
QUALITY = 80


def file_of(emoji: Emoji) -> str:
    """Its path within the gallery: `animals-and-nature/dog-face.webp`."""
    return f"{emoji.group}/{emoji.slug}.webp"


def picture(drawing: Image.Image) -> Image.Image:
    """A drawing, trimmed and centred, on the gallery's ground: RGB, SIDE × SIDE."""
    canvas = Image.new("RGB", (SIDE, SIDE), GROUND)
    drawn = square(drawing, SIDE - 2 * MARGIN)
    canvas.paste(drawn, (MARGIN, MARGIN), drawn)
    return canvas


def write_gallery(emoji: Sequence[Emoji], folder: Path) -> list[Path]:
    """Draw every emoji into `folder`, and remove pictures there that are none of them.

    The same fonts and the same Pillow write the same bytes.
    """
    draw, written = noto(), []
    for e in emoji:
        drawing = draw(e)
        if drawing is None:
            raise SystemExit(f"{e.slug}: Noto Color Emoji draws nothing; leave it out in words.py")
        path = folder / file_of(e)
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(drawing).save(path, "WEBP", quality=QUALITY, method=6)
        written.append(path)
    for stale in set(folder.rglob("*.webp")) - set(written):
        stale.unlink()
    return written
