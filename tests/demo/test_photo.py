"""The packaged model of photos finds what people ask for among the packaged photos.

`photo_queries.tsv` was written by hand before any result was seen: 45 queries, each in five languages, with the photos
that answer it.
"""

import csv
from pathlib import Path

import numpy as np
import pytest

import tuwen
from tuwen.cli.demo import GALLERIES, Gallery
from tuwen.demo import photo_gallery

FLOORS = {"en": (0.68, 0.88), "zh": (0.68, 0.84), "de": (0.64, 0.84), "fr": (0.57, 0.86), "ja": (0.62, 0.8)}
"""language -> the least share of queries with a right photo first, and among the first five: two queries below the
measured ones"""


CATS = {f"animals/{name}" for name in ("tabby-cat", "chelsea-the-cat", "kitten", "playing-cat", "black-cat")}


@pytest.fixture(scope="module")
def encoder() -> tuwen.Encoder:
    return tuwen.load("photo", threads=1)


@pytest.fixture(scope="module")
def names() -> list[str]:
    paths = sorted(photo_gallery().rglob("*.jpg"))
    return [path.relative_to(photo_gallery()).with_suffix("").as_posix() for path in paths]


@pytest.fixture(scope="module")
def photos(encoder: tuwen.Encoder, names: list[str]) -> np.ndarray:
    return encoder.encode_images([photo_gallery() / f"{name}.jpg" for name in names])


@pytest.fixture(scope="module")
def queries() -> list[dict[str, str]]:
    with Path(__file__).with_name("photo_queries.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.mark.parametrize("language", FLOORS)
def test_queries_find_a_right_photo(encoder, names, photos, queries, language: str) -> None:
    ranked = np.argsort(-encoder.encode_texts([query[language] for query in queries]) @ photos.T, axis=1)
    ranks = [
        next(rank for rank, place in enumerate(order) if names[place] in query["right"].split())
        for query, order in zip(queries, ranked.tolist(), strict=True)
    ]
    first, five = FLOORS[language]
    assert np.mean(np.array(ranks) < 1) >= first
    assert np.mean(np.array(ranks) < 5) >= five


@pytest.fixture(scope="module")
def gallery() -> Gallery:
    return GALLERIES["photos"]()


def test_a_photo_is_like_others_of_its_kind(names, photos, gallery: Gallery) -> None:
    own = names.index(gallery.picture.removesuffix(".jpg"))
    best = np.argsort(-photos @ photos[own])
    assert best[0] == own
    assert {names[place] for place in best[:4]} <= CATS
