"""Draw every emoji from each set of artwork, as RGBA."""

import io
import json
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from recipes.emoji.sources import HELD_OUT, NOTO, TRAINED, ArtSet, drawings
from recipes.emoji.words import Emoji, slug

CBDT_SIZE = 109
"""the only size of Noto Color Emoji's bitmaps: glyphs of 136 × 128 pixels"""
CANVAS = 136

Draw = Callable[[Emoji], Image.Image | None]


def noto() -> Draw:
    """A function that draws from Noto Color Emoji; it returns None for emoji without a single glyph in the font."""
    font = ImageFont.truetype(str(NOTO), CBDT_SIZE, layout_engine=ImageFont.Layout.RAQM)

    def draw(emoji: Emoji) -> Image.Image | None:
        left, top, right, bottom = font.getbbox(emoji.text)
        if right - left > CANVAS or right == left:
            return None
        image = Image.new("RGBA", (CANVAS, CANVAS))
        place = ((CANVAS - (right - left)) // 2 - left, (CANVAS - (bottom - top)) // 2 - top)
        ImageDraw.Draw(image).text(place, emoji.text, font=font, embedded_color=True)
        return image if image.getbbox() else None

    return draw


def iconify(art: ArtSet, work: Path) -> Draw:
    """A function that draws from an Iconify set, whose icons are named in English."""
    folder = drawings(art, work)
    content = json.loads((folder / "icons.json").read_text(encoding="utf-8"))
    width, height = content.get("width", 16), content.get("height", 16)
    bodies = dict(content["icons"])
    for alias, target in content.get("aliases", {}).items():
        if set(target) == {"parent"} and target["parent"] in bodies:
            bodies[alias] = bodies[target["parent"]]
    squashed = {name.replace("-", ""): icon for name, icon in bodies.items()}

    def draw(emoji: Emoji) -> Image.Image | None:
        for name in _filed_under(emoji):
            icon = bodies.get(name) or squashed.get(name.replace("-", ""))
            if icon:
                corner = f"{icon.get('left', 0)} {icon.get('top', 0)}"
                box = f"{corner} {icon.get('width', width)} {icon.get('height', height)}"
                return _svg(
                    f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
                    f'viewBox="{box}">{icon["body"]}</svg>'
                )
        return None

    return draw


def twemoji(work: Path) -> Draw:
    """A function that draws from Twemoji, the held-out set, whose files are named by code points."""
    folder = drawings(HELD_OUT, work)

    def draw(emoji: Emoji) -> Image.Image | None:
        full = "-".join(f"{ord(c):x}" for c in emoji.text)
        for name in (emoji.code, full):
            path = folder / f"{name}.svg"
            if path.exists():
                return _svg(path.read_text(encoding="utf-8"))
        return None

    return draw


def trained_sets(work: Path) -> dict[str, Draw]:
    """All sets of artwork used in training, Noto first."""
    return {"noto": noto(), **{art.name: iconify(art, work) for art in TRAINED}}


def draw_all(draw: Draw, emoji: Sequence[Emoji], size: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draw all emoji that a set has, trimmed and centred in a square.

    Returns:
        (n, size, size, 4) RGBA with premultiplied alpha, and the (n,) positions in `emoji` that they belong to.
    """
    pictures, owners = [], []
    for position, e in enumerate(emoji):
        image = draw(e)
        if image is not None:
            pictures.append(np.asarray(square(image, size).convert("RGBa")))
            owners.append(position)
    return np.stack(pictures), np.array(owners)


def square(image: Image.Image, size: int) -> Image.Image:
    """Trim the empty border, centre in a square, and resize to `size` (alpha premultiplied while resizing)."""
    trimmed = image.crop(image.getbbox())
    side = max(trimmed.size)
    canvas = Image.new("RGBA", (side, side))
    canvas.paste(trimmed, ((side - trimmed.width) // 2, (side - trimmed.height) // 2))
    return canvas.resize((size, size), Image.Resampling.LANCZOS)


def _svg(source: str) -> Image.Image:
    import resvg_py  # only needed for vector drawings, not for the tests of this recipe

    png = resvg_py.svg_to_bytes(svg_string=source, width=CANVAS, skip_system_fonts=True)
    return Image.open(io.BytesIO(bytes(png))).convert("RGBA")


def _filed_under(emoji: Emoji) -> list[str]:
    names = [emoji.slug, emoji.slug.removeprefix("flag-"), f"flag-for-{emoji.slug.removeprefix('flag-')}"]
    if len(emoji.code.split("-")) == 1:
        names.append(slug(unicodedata.name(emoji.text[0], emoji.slug)))
    return names
