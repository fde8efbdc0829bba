"""Measures a model through the path that users take: `python -m recipes.photo.evaluate photo`.

Photos and captions are those of `../shared/data`, which the model was not made from.
"""

import argparse
import csv
import json
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from recipes.photo.dictionaries import words_of
from recipes.photo.lexicon import LANGUAGES
from recipes.photo.sources import SHARED

FLICKR, IMAGENET = SHARED / "flickr8k_200", SHARED / "imagenet_100"
NAMES = {"en": "en", "zh": "cn", "ja": "jp", "it": "it", "ar": "ar"}
"""columns of `labels.tsv`"""

ZERO_SHOT = Path(__file__).with_name("zero_shot.tsv")
"""photos with one clear thing in them, labelled by looking at them"""
LABELS = """
person dog cat bird horse insect car bicycle boat food building beach mountain flower snow
人 狗 猫 鸟 马 昆虫 汽车 自行车 船 食物 建筑 海滩 山 花 雪
"""
EVERYDAY = {
    language: labels.split() for language, labels in zip(("en", "zh"), LABELS.strip().splitlines(), strict=True)
}

Floats = NDArray[np.float32]


class Encoder(Protocol):
    """What is measured."""

    def encode_images(self, images: Sequence[Path | Image.Image]) -> Floats: ...

    def encode_texts(self, texts: Sequence[str]) -> Floats: ...


def evaluate(encoder: Encoder) -> dict[str, float]:
    """Measure, print and return all figures."""
    facts = {**captions(encoder), **class_names(encoder), **everyday(encoder), **versions(encoder), **nouns(encoder)}
    for name, value in facts.items():
        print(f"{name:24} {value:.3f}")
    return facts


def captions(encoder: Encoder) -> dict[str, float]:
    """Recall of the photo among 200 that a caption was written for, by language."""
    samples = [json.loads(line) for line in (FLICKR / "captions.jsonl").read_text(encoding="utf-8").splitlines()]
    photos = encoder.encode_images([FLICKR / sample["image"] for sample in samples])
    facts = {}
    for language in ("en", "zh", "de", "fr"):
        texts = [(text, row) for row, sample in enumerate(samples) for text in sample.get(language, [])]
        ranks = _ranks(encoder.encode_texts([text for text, _ in texts]) @ photos.T, [row for _, row in texts])
        facts |= {f"captions_{language}_{k}": _share(ranks < k) for k in (1, 5, 10)}
    return facts


def class_names(encoder: Encoder) -> dict[str, float]:
    """How often the photo of a class is the nearest to its name, among one photo of each of 100."""
    rows = _classes()
    photos = encoder.encode_images([IMAGENET / row["file"] for row in rows])
    facts = {}
    for language, column in NAMES.items():
        ranks = _ranks(encoder.encode_texts([row[column] for row in rows]) @ photos.T, range(len(rows)))
        facts[f"class_names_{language}"] = _share(ranks < 1)
    return facts


def everyday(encoder: Encoder) -> dict[str, float]:
    """How often the label of a photo is the nearest of 15 to it; and the mean over labels."""
    with ZERO_SHOT.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    photos = encoder.encode_images([SHARED / row["photo"] for row in rows])
    own = np.array([EVERYDAY["en"].index(row["label"]) for row in rows])
    facts = {}
    for language, labels in EVERYDAY.items():
        right = (photos @ encoder.encode_texts(labels).T).argmax(axis=1) == own
        facts[f"everyday_{language}"] = _share(right)
        facts[f"everyday_{language}_by_label"] = float(
            np.mean([right[own == label].mean() for label in np.unique(own)])
        )
    return facts


def versions(encoder: Encoder) -> dict[str, float]:
    """How many of the five photos nearest to each version of 100 photos are other versions of the same photo."""
    photos = [Image.open(IMAGENET / row["file"]).convert("RGB") for row in _classes()]
    vectors = encoder.encode_images([version for photo in photos for version in _versions(photo)])
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    count = len(_versions(photos[0]))
    nearest = np.argsort(-scores, axis=1)[:, : count - 1] // count
    own = np.arange(len(vectors)) // count
    return {"versions": _share(nearest == own[:, None])}


def _versions(photo: Image.Image) -> list[Image.Image]:
    """A photo, two crops of it, its mirror image, a poor JPEG and a small one."""
    width, height = photo.size
    poor = BytesIO()
    photo.save(poor, "JPEG", quality=30)
    return [
        photo,
        photo.crop((width // 10, height // 10, width - width // 10, height - height // 10)),
        photo.crop((0, 0, width * 8 // 10, height)),
        ImageOps.mirror(photo),
        Image.open(poor),
        photo.resize((max(1, width // 3), max(1, height // 3))),
    ]


def nouns(encoder: Encoder) -> dict[str, float]:
    """By language: how often the photo of a class is found first by a word for it, as a share of the English figure.

    Classes are those of the 100 that have a word in the Open Multilingual Wordnet.
    """
    rows = _classes()
    photos = encoder.encode_images([IMAGENET / row["file"] for row in rows])
    keys = [f"{row['wnid'][1:]}-n" for row in rows]
    first = _ranks(encoder.encode_texts([row["en"] for row in rows]) @ photos.T, range(len(rows))) < 1
    facts = {}
    for language in LANGUAGES[1:]:
        words = words_of(language, keys)
        places = [place for place, key in enumerate(keys) if key in words]
        ranks = _ranks(encoder.encode_texts([words[keys[place]] for place in places]) @ photos.T, places)
        facts[f"nouns_{language}"] = round(float((ranks < 1).mean() / first[places].mean()), 3)
    return facts


def _classes() -> list[dict[str, str]]:
    with (IMAGENET / "labels.tsv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def _ranks(scores: Floats, right: Sequence[int]) -> NDArray[np.int64]:
    """How many photos score higher than the right one; ties count half."""
    own = scores[np.arange(len(scores)), list(right)][:, None]
    return (scores > own).sum(axis=1) + ((scores == own).sum(axis=1) - 1) // 2


def _share(found: NDArray[np.bool_]) -> float:
    return round(float(found.mean()), 4)


def main() -> None:
    import tuwen

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", nargs="?", default="photo", help="a folder, or a model's name")
    asked = parser.parse_args()
    evaluate(tuwen.load(asked.bundle))


if __name__ == "__main__":
    main()
