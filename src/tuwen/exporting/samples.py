"""Images and texts to verify a bundle and to calibrate int8 on: the user's own, or built-in ones.

The built-in samples are the same on every machine. They do not measure quality; they cover cases in which two
implementations differ: odd sizes, extreme aspect ratios, texts in many scripts and of every length, and characters
that cleaners and tokenizers treat differently.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from PIL import Image, ImageDraw

from tuwen.bundle.manifest import ImageSpec, TextSpec, Tower
from tuwen.data.decode import Reading, read_image
from tuwen.data.files import find_sources
from tuwen.data.pixels import to_pixels
from tuwen.data.tokens import Tokenizer
from tuwen.errors import InvalidInput, RejectedImages
from tuwen.exporting.graph import Feeds
from tuwen.runtime.encoder import MAX_PIXELS
from tuwen.runtime.machine import usable_cores
from tuwen.runtime.pipeline import BATCH, prefetch
from tuwen.types import Pixels, Rejected, Source, Tokens

_SIZES = ((640, 480), (480, 640), (512, 512), (37, 51), (333, 221), (1024, 300), (260, 901), (224, 224), (225, 224))

TEXTS = (
    "a photo of a cat",
    "two dogs playing in the snow near a wooden fence at night",
    "A red bicycle leaning against the wall of a small café, early in the morning.",
    "It's the dog's owner who'll say they've seen 1,234 birds at 5:30pm!",
    "Fish &amp; chips &lt;b&gt;bold&lt;/b&gt;   with\ttabs\nand lines ",
    "“curly quotes” ‘single’ – dashes — and … ellipsis, ﬁne ligatures",
    "ＦＵＬＬ　ｗｉｄｔｈ　１２３",
    "naïve façade, Straße, İstanbul, ΣΊΣΥΦΟΣ, œuvre",
    "cafÃ© au lait — mojibake",
    "😀 emoji 👩‍👩‍👧‍👦 family 🇨🇳 flag ❤️",
    "<|endoftext|> typed end token <end_of_text>",
    "control\x07 characters\u200b and zero\u200dwidth",
    "一只狗在草地上",
    "两个孩子在海边玩耍，天空很蓝。",
    "夜景，城市，霓虹灯2024年",
    "一隻貓坐在窗台上",
    "公園で犬が走っている",
    "カタカナとひらがなと漢字",
    "공원에서 노는 강아지",
    "собака бежит по зелёной траве",
    "ένας σκύλος τρέχει στο πάρκο",
    "كلب يركض في الحديقة",
    "כלב רץ בפארק",
    "कुत्ता पार्क में दौड़ रहा है",
    "สุนัขวิ่งในสวนสาธารณะ",
    "một con chó đang chạy trong công viên",
    "ein Hund läuft über eine grüne Wiese",
    "un chien court dans l'herbe haute",
    "un perro corre por el césped, ¿lo ves?",
    "um cão corre na relva ao pôr do sol",
    "un cane corre sull'erba",
    "pes běží po trávě",
    "köpek çimlerin üzerinde koşuyor",
    "собака біжить по траві",
    "seekor anjing berlari di taman",
    "x",
    "",
    "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20",
    "a very long caption " * 60,
    "狗" * 300,
)


@dataclass(frozen=True, slots=True)
class Samples:
    """Images and texts to verify on.

    Attributes:
        images: upright RGB images.
        texts: captions, or labels in their template.
        labelled: whether the texts are the user's own labels.
    """

    images: Sequence[Image.Image]
    texts: Sequence[str]
    labelled: bool = False


def built_in() -> Samples:
    """Nine images of different shapes, and the texts above."""
    return Samples([_picture(size, seed) for seed, size in enumerate(_SIZES)], TEXTS)


def drawn(count: int) -> list[Image.Image]:
    """Further images like the built-in ones, all different."""
    return [_picture(_SIZES[seed % len(_SIZES)], 100 + seed) for seed in range(count)]


def given(images: Sequence[Path], texts: Path | None) -> Samples:
    """The user's images and captions; built-in ones for what is not given.

    Args:
        images: image files, or folders of images.
        texts: a file with one caption per line, in UTF-8; empty lines are skipped.

    Raises:
        InvalidInput: fewer than two images or captions are found.
        RejectedImages: an image cannot be read; raised when it is reached.
    """
    found = [item.path for item in find_sources(images, Path.cwd()) if isinstance(item, Source)] if images else None
    lines = None if texts is None else [line for line in _lines(texts) if line.strip()]
    for name, values in (("images", found), ("captions", lines)):
        if values is not None and len(values) < 2:
            raise InvalidInput(
                f"{len(values)} {name} were given to verify on; at least 2 are needed", value=len(values), where=name
            )
    default = built_in()
    return Samples(default.images if found is None else Photos(found), default.texts if lines is None else lines)


def labelled(images: Sequence[Path], labels: Sequence[str]) -> Samples:
    """The user's images (by default the built-in ones), and labels in their template.

    Raises:
        InvalidInput: no image is found, or there are fewer than two labels: one label alone always gets 100 %.
        RejectedImages: an image cannot be read; raised when it is reached.
    """
    found = [item.path for item in find_sources(images, Path.cwd()) if isinstance(item, Source)] if images else None
    if found is not None and not found:
        raise InvalidInput(f"there are no images at {', '.join(map(str, images))}", value=list(images))
    if len(labels) < 2:
        raise InvalidInput(
            f"{len(labels)} labels were given to compare probabilities over; at least 2 are needed", value=list(labels)
        )
    return Samples(built_in().images if found is None else Photos(found), labels, labelled=True)


class Photos(Sequence[Image.Image]):
    """Image files that are decoded exactly when they are accessed: a thousand photos do not fit into memory."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    @overload
    def __getitem__(self, place: int) -> Image.Image: ...
    @overload
    def __getitem__(self, place: slice) -> list[Image.Image]: ...
    def __getitem__(self, place: int | slice) -> Image.Image | list[Image.Image]:
        if isinstance(place, slice):
            return list(prefetch(_opened, self._paths[place], threads=usable_cores(), depth=BATCH))
        return _opened(self._paths[place])


def _opened(path: Path) -> Image.Image:
    picture = read_image(path, str(path), Reading(near=None, max_pixels=MAX_PIXELS, srgb=False))
    if isinstance(picture, Rejected):
        raise RejectedImages([picture])
    return picture.image


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is not UTF-8: {error.reason} at byte {error.start}; convert it") from error


def _picture(size: tuple[int, int], seed: int) -> Image.Image:
    """Soft colours, sharp shapes and a little noise, as photographs have smooth areas, edges and fine detail."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
    picture = coarse.resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    for _ in range(6):
        x, y = (int(rng.integers(0, length)) for length in size)
        reach = int(rng.integers(4, max(6, min(size) // 3)))
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((x - reach, y - reach, x + reach, y + reach), fill=colour)
    noisy = np.asarray(picture, dtype=np.int16) + rng.integers(-12, 13, (size[1], size[0], 3), dtype=np.int16)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


MOST = 64
"""more images or texts than this hardly change the ranges"""
FEWEST = 16
"""if there are fewer images, drawn ones are added"""
CHECKED = 32
"""the number of samples on which int8 is compared with fp32"""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Inputs of a tower for quantisation.

    Attributes:
        measured: inputs on which ranges are measured, one at a time.
        checked: inputs on which the result is compared; at least half of them are not in `measured`.
    """

    measured: Sequence[Feeds]
    checked: Sequence[Feeds]


def calibration(
    samples: Samples, image_spec: ImageSpec, text_spec: TextSpec, tokenizer: Tokenizer
) -> dict[Tower, Calibration]:
    """Every second image and text of the samples, and the built-in texts; the other half is for checking.

    Texts are padded as they are when encoded: not at all if `text_spec.cut_exact`, else to the context length.
    """
    images, texts = samples.images[::2][:MOST], list(samples.texts[::2][:MOST])
    if len(images) < FEWEST:
        images = [*images, *drawn(2 * FEWEST - len(images))]
    measured = {
        "vision": _pixel_feeds(to_pixels(image_spec, images), 1),
        "text": _token_feeds(tokenizer.to_tokens(list(dict.fromkeys([*texts, *TEXTS]))), text_spec),
    }
    images, texts = samples.images[:CHECKED], list(samples.texts[:CHECKED])
    checked = {
        "vision": _pixel_feeds(to_pixels(image_spec, images), 8),
        "text": _token_feeds(tokenizer.to_tokens(texts), text_spec),
    }
    towers: tuple[Tower, ...] = ("vision", "text")
    return {tower: Calibration(measured[tower], checked[tower]) for tower in towers}


def _pixel_feeds(pixels: Pixels, batch: int) -> list[Feeds]:
    return [{"pixel_values": pixels[start : start + batch]} for start in range(0, len(pixels), batch)]


def _token_feeds(tokens: Tokens, spec: TextSpec) -> list[Feeds]:
    feeds: list[Feeds] = []
    for ids, length in zip(tokens.ids, tokens.lengths, strict=True):
        wide = int(length) if spec.cut_exact else spec.context_length
        row = np.full((1, wide), spec.pad_id, dtype=np.int64)
        row[0, :length] = ids[:length]
        mask = (np.arange(wide) < length).astype(np.int64)[None, :]
        feeds.append({"input_ids": row, "attention_mask": mask} if spec.mask else {"input_ids": row})
    return feeds
