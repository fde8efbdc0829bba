"""Captions for training: names, keywords, sentences around them, and scenes of two or three emoji."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from recipes.emoji.words import LANGUAGES, Emoji, fold, held_out

TEMPLATES: dict[str, tuple[str, ...]] = {
    "en": ("a photo of a {}", "a picture of {}", "an emoji of a {}", "{} icon"),
    "zh": ("一张{}的照片", "{}的图片", "一张{}的图", "{}表情符号"),
    "ja": ("{}の写真", "{}の絵", "{}のイラスト"),
    "ko": ("{} 사진", "{} 그림", "{} 이모지"),
    "fr": ("une photo de {}", "une image de {}", "un dessin de {}"),
    "de": ("ein Foto von {}", "ein Bild von {}", "eine Zeichnung von {}"),
    "es": ("una foto de {}", "una imagen de {}", "un dibujo de {}"),
    "it": ("una foto di {}", "un'immagine di {}", "un disegno di {}"),
    "pt": ("uma foto de {}", "uma imagem de {}", "um desenho de {}"),
    "nl": ("een foto van {}", "een afbeelding van {}", "een tekening van {}"),
    "pl": ("zdjęcie {}", "obrazek: {}", "rysunek {}"),
    "ru": ("фото {}", "картинка: {}", "рисунок {}"),
    "uk": ("фото {}", "зображення: {}", "малюнок {}"),
    "ar": ("صورة {}", "صورة فوتوغرافية {}", "رسم {}"),
    "hi": ("{} की तस्वीर", "{} का फोटो", "{} का चित्र"),
    "th": ("ภาพถ่ายของ{}", "รูป{}", "ภาพวาด{}"),
    "tr": ("bir {} fotoğrafı", "{} resmi", "{} çizimi"),
    "vi": ("một bức ảnh về {}", "hình ảnh {}", "tranh vẽ {}"),
}
AND: dict[str, str] = {
    "en": "{} and {}", "zh": "{}和{}", "ja": "{}と{}", "ko": "{}, {}", "fr": "{} et {}", "de": "{} und {}",
    "es": "{} y {}", "it": "{} e {}", "pt": "{} e {}", "nl": "{} en {}", "pl": "{} i {}", "ru": "{} и {}",
    "uk": "{} та {}", "ar": "{} و {}", "hi": "{} और {}", "th": "{}และ{}", "tr": "{} ve {}", "vi": "{} và {}",
}  # fmt: skip
NAMED = 0.9
"""share of a caption's target for emoji with that name, if other emoji have it as a keyword"""


@dataclass(frozen=True, slots=True)
class Meaning:
    """The emoji that a folded caption means: positions with weights that sum to 1, and positions to leave out."""

    positions: tuple[int, ...]
    weights: tuple[float, ...]
    unseen: tuple[int, ...]


class Captions:
    """Draws random captions with their meaning.

    A held-out pair is neither a positive nor a negative: the emoji is left out of that caption's loss.
    """

    def __init__(self, emoji: Sequence[Emoji]) -> None:
        self.emoji = emoji
        self.held_out = held_out(list(emoji))
        named, keyed = defaultdict(set), defaultdict(set)
        for position, e in enumerate(emoji):
            for language in LANGUAGES:
                named[fold(e.names[language])].add(position)
                for keyword in e.keywords[language]:
                    keyed[fold(keyword)].add(position)
        self._meanings = {text: self._meaning(text, named, keyed) for text in named.keys() | keyed.keys()}
        self.keywords = [
            [self._trained(position, e.keywords[language]) for language in LANGUAGES]
            for position, e in enumerate(emoji)
        ]

    def meaning(self, caption: str) -> Meaning:
        """The meaning of a name or keyword."""
        return self._meanings[fold(caption)]

    def word(self, position: int, language: int, rng: Generator, named: float = 0.65) -> tuple[str, Meaning]:
        """A name (with probability `named`) or a trained keyword of an emoji."""
        keywords = self.keywords[position][language]
        name = self.emoji[position].names[LANGUAGES[language]]
        word = name if not keywords or rng.random() < named else keywords[rng.integers(len(keywords))]
        return word, self.meaning(word)

    def single(self, position: int, language: int, rng: Generator) -> tuple[str, Meaning]:
        """A caption of one emoji: the bare word, or a sentence around it (a quarter of the time)."""
        word, meaning = self.word(position, language, rng)
        if rng.random() < 0.25:
            templates = TEMPLATES[LANGUAGES[language]]
            # sometimes a sentence in another language: people mix languages, above all with English and Chinese
            if rng.random() < 0.25:
                templates = TEMPLATES["en" if rng.random() < 0.5 else "zh"]
            word = templates[rng.integers(len(templates))].format(word)
        return word, meaning

    def scene(self, positions: Sequence[int], language: int, rng: Generator) -> tuple[str, Meaning]:
        """A caption of several emoji by their names, each an equal part of the meaning."""
        names = [self.emoji[position].names[LANGUAGES[language]] for position in rng.permutation(positions)]
        text = names[0]
        for name in names[1:]:
            text = AND[LANGUAGES[language]].format(text, name)
        return text, Meaning(tuple(positions), (1 / len(positions),) * len(positions), ())

    def texts(self) -> list[str]:
        """All possible texts, each once, to train the tokenizer."""
        words = sorted(self._meanings)
        return (
            words + [t.format("") for ts in TEMPLATES.values() for t in ts] + [t.format("", "") for t in AND.values()]
        )

    def _trained(self, position: int, keywords: Sequence[str]) -> tuple[str, ...]:
        code = self.emoji[position].code
        return tuple(k for k in keywords if (code, fold(k)) not in self.held_out)

    def _meaning(self, text: str, named: dict[str, set[int]], keyed: dict[str, set[int]]) -> Meaning:
        unseen = {p for p in keyed.get(text, ()) if (self.emoji[p].code, text) in self.held_out}
        owners = named.get(text, set()) - unseen
        others = keyed.get(text, set()) - unseen - owners
        shares = {p: (NAMED if others else 1.0) / len(owners) for p in owners}
        shares |= {p: (1 - NAMED if owners else 1.0) / len(others) for p in others}
        return Meaning(tuple(shares), tuple(shares.values()), tuple(unseen))


def language_of(index: int) -> str:
    """The code of a language by its index in `LANGUAGES`."""
    return LANGUAGES[index]


def draw_languages(count: int, rng: Generator) -> np.ndarray:
    """Draw languages for `count` captions, with equal probability."""
    return rng.integers(len(LANGUAGES), size=count)
