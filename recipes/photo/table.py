"""The text tower's tables: the meanings of each token, and the vector of each meaning.

A number of a vector has four bits. That suffices since there are many and all vary alike, because the space was turned
by a random rotation; the direction of a vector is off by a tenth, to no side in particular.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from recipes.photo.lexicon import SENSES, Lexicon
from recipes.photo.towers import ZERO, TextTower
from recipes.photo.wordnet import WordNet

NOT_NOUN = 0.5
"""what a verb's, an adjective's or an adverb's meaning counts beside a noun's"""
CERTAINTY = 0.65
"""a word counts by its length to the power of 1 less this: what looks like nothing in particular counts less"""
STEP = 0.3352
"""between 16 levels, in standard deviations: the one with the least square error for a normal distribution"""
KINDS = "@\\+&"
"""where a meaning without a vector takes one from: hypernym, pertaining to, derived from, similar"""
MEANINGS = 28_000
"""how many meanings have a vector; others have that of what they are a kind of"""
SMALLER = 64
"""texts are divided by this, so that the squares of their numbers fit in fp16"""
NOTHING = 0.5
"""what stands in every text for "none of this", beside the length of a usual word"""

Matrix = NDArray[np.float32]


def make_text_tower(
    words: list[str], lexicon: Lexicon, wordnet: WordNet, needed: NDArray[np.float64], vectors: Matrix
) -> TextTower:
    """The tower.

    Args:
        words: the word of each token, see `make_tokenizer`.
        lexicon: what words mean.
        wordnet: the meanings.
        needed: (synsets,) how much each meaning is needed.
        vectors: (synsets, dim) their vectors; the last of a row is 0.
    """
    kinds = _kinds(wordnet)
    kept = _kept(kinds, needed, vectors)
    places = _places(kinds, kept)
    senses = np.zeros((len(words), SENSES), dtype=np.int16)
    weights = np.zeros((len(words), SENSES), dtype=np.float32)
    for token, word in enumerate(words):
        found = [(places[wordnet.index[key]], share, key) for key, share in lexicon.get(word, {}).items()]
        known = [(row, share * (1 if key[-1] == "n" else NOT_NOUN)) for row, share, key in found if row is not None]
        for number, (row, share) in enumerate(known):
            senses[token, number], weights[token, number] = row, share
    own = vectors[kept] / np.linalg.norm(vectors[kept], axis=1).mean()
    scale = STEP * own[:, :-1].std(axis=1).clip(1e-6)
    levels = np.clip(np.rint(own / scale[:, None] + ZERO), 0, 15).astype(np.uint8)
    first, second = np.split(levels, 2, axis=1)
    lengths = _lengths(senses, weights, own)
    weights /= lengths.clip(1e-6)[:, None] ** CERTAINTY
    unit = 255 / weights.max()
    typical = np.median(lengths[lengths > 0] ** (1 - CERTAINTY))
    tensors = {
        "senses": senses,
        "weights": np.rint(weights * unit).astype(np.uint8),
        "meanings": first * 16 + second,
        "scale": scale / SMALLER,
        "nothing": np.array([NOTHING * typical * unit / SMALLER], dtype=np.float32),
    }
    return TextTower(**{name: torch.from_numpy(values) for name, values in tensors.items()})


def _lengths(senses: NDArray[np.int16], weights: Matrix, vectors: Matrix) -> Matrix:
    """(tokens,) the length of each token's vector."""
    parts = np.array_split(np.arange(len(senses)), 64)
    sums = [(vectors[senses[part]] * weights[part][..., None]).sum(axis=1) for part in parts]
    return np.concatenate([np.linalg.norm(rows, axis=1) for rows in sums])


def _kinds(wordnet: WordNet) -> list[int | None]:
    """For each synset the row of the one that it is a kind of, or else nearest to."""
    found = [
        [(KINDS.index(symbol[0]), wordnet.index[key]) for symbol, key in synset.relations if symbol[0] in KINDS]
        for synset in wordnet.synsets
    ]
    return [min(kinds)[1] if kinds else None for kinds in found]


def _kept(kinds: list[int | None], needed: NDArray[np.float64], vectors: Matrix) -> list[int]:
    """The rows of the synsets that get a vector: where another's would be furthest off, and most often."""
    others = np.stack([np.zeros_like(vectors[0]) if kind is None else vectors[kind] for kind in kinds])
    missed = needed * ((vectors - others) ** 2).sum(axis=1)
    return sorted(np.argsort(-missed, kind="stable")[:MEANINGS].tolist())


def _places(kinds: list[int | None], kept: list[int]) -> list[int | None]:
    """For each synset its row in the table, or that of what it is a kind of; None if there is none."""
    rows = {row: number for number, row in enumerate(kept)}
    places: list[int | None] = []
    for start in range(len(kinds)):
        row: int | None = start
        for _ in range(16):
            if row is None or row in rows:
                break
            row = kinds[row]
        places.append(rows.get(row) if row is not None else None)
    return places
