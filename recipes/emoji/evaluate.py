"""Evaluate a bundle as users run it: `python -m recipes.emoji.evaluate BUNDLE GALLERY`.

Every image is read from a file and every vector comes from `tuwen.load(BUNDLE)`. Measured for each language:

- name → picture: search the gallery for a CLDR name; any picture with exactly this name is right.
- picture → name: search all names of the language for a picture; its own name (or an identical one) is right.
- Twemoji: the same as name → picture, with Twemoji's drawings, which were not used in training.
- held out: search the gallery for a keyword; the picture that it was held out for is right. Pictures that were
  trained with this keyword are left out of the ranking, since they are right answers too.
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from recipes.emoji.gallery import file_of, picture
from recipes.emoji.glyphs import twemoji
from recipes.emoji.words import LANGUAGES, fold, held_out, read_emoji

ANIMALS = ("dog", "rat", "man", "cat", "woman")
LABELS = {"en": ANIMALS, "zh": ("狗", "老鼠", "男人", "猫", "女人")}
ASKED = ("a photo of a {}", "一张{}的照片")

Floats = NDArray[np.float32]


class Encoder(Protocol):
    """The model to evaluate."""

    def encode_images(self, images: Sequence[Path | Image.Image]) -> Floats: ...

    def encode_texts(self, texts: Sequence[str]) -> Floats: ...


@dataclass(frozen=True, slots=True)
class Line:
    """The figures of one language: fractions from 0 to 1, NaN if there is nothing to measure."""

    language: str
    text_to_image_1: float
    text_to_image_10: float
    image_to_text_1: float
    image_to_text_10: float
    twemoji_1: float
    twemoji_10: float
    held_out_10: float
    held_out_50: float
    held_out_pairs: int


class Evaluation:
    """A model's vectors of the gallery and of Twemoji, and the measurements on them."""

    def __init__(self, encoder: Encoder, gallery: Path, work: Path | None) -> None:
        self.encoder, self.emoji = encoder, read_emoji()
        self.pictures = encoder.encode_images([gallery / file_of(e) for e in self.emoji])
        self.unseen = held_out(self.emoji)
        self.twemoji, self.drawn = self._twemoji(work) if work else (None, np.arange(0))

    def line(self, language: str) -> Line:
        """Measure one language."""
        names = [e.names[language] for e in self.emoji]
        same = _same([fold(name) for name in names])
        vectors = self.encoder.encode_texts(names)
        scores = vectors @ self.pictures.T
        forward, backward = _ranks(scores, same), _ranks(scores.T, same)
        strange = self._strange(vectors, same)
        lost = self._held_out(language)
        return Line(
            language,
            *(_share(ranks, k) for ranks in (forward, backward, strange) for k in (1, 10)),
            _share(lost, 10),
            _share(lost, 50),
            len(lost),
        )

    def right(self, language: str, template: str) -> int:
        """The number of the five pictures dog, rat, man, cat and woman that get their own label."""
        own = [next(i for i, e in enumerate(self.emoji) if e.slug == animal) for animal in ANIMALS]
        labels = self.encoder.encode_texts([template.format(label) for label in LABELS[language]])
        return int(((self.pictures[own] @ labels.T).argmax(1) == np.arange(5)).sum())

    def _twemoji(self, work: Path) -> tuple[Floats, NDArray[np.int64]]:
        draw = twemoji(work)
        drawings = [(i, drawing) for i, e in enumerate(self.emoji) if (drawing := draw(e)) is not None]
        vectors = self.encoder.encode_images([picture(drawing) for _, drawing in drawings])
        return vectors, np.array([i for i, _ in drawings])

    def _strange(self, vectors: Floats, same: NDArray[np.bool_]) -> NDArray[np.int64]:
        if self.twemoji is None:
            return np.zeros(0, int)
        return _ranks(vectors[self.drawn] @ self.twemoji.T, same[np.ix_(self.drawn, self.drawn)])

    def _held_out(self, language: str) -> NDArray[np.int64]:
        keywords = [{fold(k) for k in e.keywords[language]} for e in self.emoji]
        pairs = [(i, k) for i, e in enumerate(self.emoji) for k in sorted(keywords[i]) if (e.code, k) in self.unseen]
        vectors = self.encoder.encode_texts([k for _, k in pairs])
        ranks = []
        for (own, keyword), vector in zip(pairs, vectors, strict=True):
            scores = self.pictures @ vector
            others = np.array([keyword not in known for known in keywords])
            ranks.append(int((scores[others] > scores[own]).sum()) + 1)
        return np.array(ranks)


def evaluate(encoder: Encoder, gallery: Path, work: Path | None) -> dict[str, float | int]:
    """Measure, print the table, and return the figures as they are recorded in the manifest.

    Args:
        encoder: the model.
        gallery: the folder of pictures.
        work: the folder for downloads; None: leave out Twemoji.
    """
    evaluation = Evaluation(encoder, gallery, work)
    facts: dict[str, float | int] = {"gallery_pictures": len(evaluation.emoji)}
    print("      name → picture   picture → name         Twemoji    held out keywords")
    print("        R@1   R@10       R@1   R@10       R@1   R@10      R@10   R@50  pairs")
    for language in LANGUAGES:
        line = evaluation.line(language)
        print(_row(line))
        measured = {name: getattr(line, name) for name in line.__slots__[1:]}
        facts |= {f"{name}_{language}": value for name, value in measured.items() if not math.isnan(value)}
    for language, labels in LABELS.items():
        for template in ASKED:
            right = evaluation.right(language, template)
            print(f"{' '.join(labels)} in “{template}”: {right} of 5")
            facts[f"five_right_{language}: {template}"] = right
    return facts


def _row(line: Line) -> str:
    shares = [f"{getattr(line, name):6.3f}".replace("nan", "  -") for name in line.__slots__[1:-1]]
    columns = "    ".join(" ".join(shares[start : start + 2]) for start in range(0, len(shares), 2))
    return f"{line.language}   {columns}  {line.held_out_pairs:5}"


def _same(names: Sequence[str]) -> NDArray[np.bool_]:
    codes = {name: i for i, name in enumerate(names)}
    ids = np.array([codes[name] for name in names])
    return ids[:, None] == ids[None]


def _ranks(scores: Floats, right: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The rank of the best right answer of each row, from 1."""
    best = np.where(right, scores, -np.inf).max(1, keepdims=True)
    return ((scores > best) & ~right).sum(1) + 1


def _share(ranks: NDArray[np.int64], k: int) -> float:
    return round(float((ranks <= k).mean()), 4) if len(ranks) else math.nan


def main() -> None:
    import tuwen

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", help='a folder, or "demo"')
    parser.add_argument("gallery", type=Path)
    parser.add_argument("--work", type=Path, help="folder for downloads; without it, Twemoji is left out")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    asked = parser.parse_args()
    facts = evaluate(tuwen.load(asked.bundle), asked.gallery, asked.work)
    if asked.json:
        asked.json.write_text(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()
