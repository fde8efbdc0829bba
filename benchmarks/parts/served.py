"""The index that a service is loaded with, and what its answers are compared with."""

import hashlib
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tuwen
from tuwen.index.index import VectorIndex
from tuwen.index.store import row_id
from tuwen.types import Row, Vectors

BATCH = 1_000
K = 10
TOLERANCE = 2e-3
"""how far a cosine may be off: a text's vector depends a little on the batch it was computed in"""
WORDS = (
    "dog",
    "cat",
    "boat",
    "train",
    "house",
    "tree",
    "river",
    "snow",
    "night",
    "sky",
    "red",
    "old",
    "small",
    "under",
)


@dataclass(frozen=True)
class Made:
    """What a service is started with. `ids`: a file of all rows' ids; `vectors`: of the rows, by their number."""

    index: Path
    model: str
    ids: Path
    numbers: Mapping[str, int]
    vectors: Vectors


def make(place: Path, rows: int, model: str | None) -> Made:
    """An index of so many rows: around vectors of texts, so that texts find something."""
    print(f"making an index of {rows:,} rows", file=sys.stderr, flush=True)
    model = model or str(build(place / "bundle"))
    encoder = tuwen.load(model)
    vectors = around(encoder.encode_texts(texts(min(500, rows))), rows)
    folder = place / "load.tuwen"
    with VectorIndex.create(folder, encoder=encoder) as index:
        for first in range(0, rows, BATCH):
            index.upsert([row(number, vectors[number]) for number in range(first, min(first + BATCH, rows))])
        index.optimize()
    ids = [str(row_id(key_of(number))) for number in range(rows)]
    (place / "ids.txt").write_text("".join(f"{it}\n" for it in ids))
    return Made(folder, model, place / "ids.txt", {it: number for number, it in enumerate(ids)}, vectors)


def build(folder: Path) -> Path:
    """ViT-B/32 with random weights, as a bundle."""
    from tuwen.exporting.export import export_towers
    from tuwen.models.openclip import load

    return export_towers(load("ViT-B-32"), folder).folder


def wrong(answers: Sequence[Mapping[str, Any]], made: Made) -> int:
    """How many answers are not what a search in this process gives.

    Right is: as many hits as were asked for, each with its own cosine, best first, and none missing that the same
    index gives here, unless it is no better than the last one.
    """
    encoder = tuwen.load(made.model)
    with VectorIndex.open(made.index, encoder=encoder) as index:
        return sum(not right(answer, made, encoder, index) for answer in answers)


def right(answer: Mapping[str, Any], made: Made, encoder: tuwen.Encoder, index: VectorIndex) -> bool:
    query = answer["query"].removeprefix("id:")
    number = made.numbers.get(query)  # None: it was no row, but a text
    vector = encoder.encode_texts([query])[0] if number is None else made.vectors[number]
    hits = [(hit["id"], hit["score"]) for hit in answer["hits"]]
    scores = [score for _, score in hits]
    cosines = [float(made.vectors[made.numbers[it]] @ vector) for it, _ in hits]
    here = [hit for hit in index.search(vector, k=K + 1) if hit.id != query][:K]
    found = {it for it, _ in hits}
    return (
        len(hits) == K == len(found)
        and scores == sorted(scores, reverse=True)
        and all(abs(score - cosine) < TOLERANCE for score, cosine in zip(scores, cosines, strict=True))
        and all(hit.id in found or hit.score < scores[-1] + TOLERANCE for hit in here)
    )


def around(centres: Vectors, rows: int) -> Vectors:
    """Rows near centres, some nearer than others."""
    draw = np.random.default_rng(0)
    noise = draw.standard_normal((rows, centres.shape[1]), dtype=np.float32) / np.sqrt(centres.shape[1])
    moved = centres[draw.integers(len(centres), size=rows)] + noise * draw.uniform(0.1, 1, (rows, 1))
    unit: Vectors = (moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float32)
    return unit


def texts(count: int) -> list[str]:
    draw = random.Random(0)
    return [f"{' '.join(draw.choices(WORDS, k=draw.randint(5, 13)))} {number}" for number in range(count)]


def key_of(number: int) -> str:
    return f"{number % 100}/{number}.jpg"


def row(number: int, vector: NDArray[np.float32]) -> Row:
    """A row as `tuwen index build` writes it, of a picture that is nowhere."""
    key = key_of(number)
    facts = {"width": 640 + number % 3000, "height": 480, "format": "JPEG", "bytes": 100_000, "modified": 1.7e9}
    content = hashlib.sha256(key.encode()).hexdigest()
    return Row(key, vector, {"folder": f"{number % 100}", "name": f"{number}.jpg", "content": content, **facts})
