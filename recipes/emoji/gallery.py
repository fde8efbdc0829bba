"""Write the gallery: a small image of every emoji, drawn by Noto, on an off-white background."""

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
    """The path of an emoji's image within the gallery, e.g. `animals-and-nature/dog-face.webp`."""
    return f"{emoji.group}/{emoji.slug}.webp"


def picture(drawing: Image.Image) -> Image.Image:
    """Trim a drawing and centre it on the gallery's background: RGB, SIDE × SIDE."""
    canvas = Image.new("RGB", (SIDE, SIDE), GROUND)
    drawn = square(drawing, SIDE - 2 * MARGIN)
    canvas.paste(drawn, (MARGIN, MARGIN), drawn)
    return canvas


def write_gallery(emoji: Sequence[Emoji], folder: Path) -> list[Path]:
    """Draw every emoji into `folder`, and remove other images there.

    The same font and version of Pillow write the same bytes.
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
