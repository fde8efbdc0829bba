"""The text tower's tables: the meanings of each token, and the vector of each meaning."""

import numpy as np
import torch
from numpy.typing import NDArray
from recipes.photo.lexicon import SENSES, Lexicon
from recipes.photo.towers import TextTower
from recipes.photo.wordnet import WordNet

NOT_NOUN = 0.5
"""what a verb's, an adjective's or an adverb's meaning counts beside a noun's"""
NOTHING = 0.5
"""what stands in every text for "none of this", beside the length of a usual word"""

Matrix = NDArray[np.float32]


def make_text_tower(
    words: list[str], lexicon: Lexicon, wordnet: WordNet, kept: list[int], vectors: Matrix
) -> TextTower:
    """The tower.

    Args:
        words: the word of each token, see `make_tokenizer`.
        lexicon: what words mean.
        wordnet: the meanings.
        kept: rows of those that get a vector; others take that of what they are a kind of.
        vectors: (synsets, dim) their vectors; the last of a row is 0.
    """
    rows = {row: number for number, row in enumerate(kept)}
    places = _places(wordnet, rows)
    senses = np.zeros((len(words), SENSES), dtype=np.int16)
    weights = np.zeros((len(words), SENSES), dtype=np.float32)
    for token, word in enumerate(words):
        found = [(places[wordnet.index[key]], share, key) for key, share in lexicon.get(word, {}).items()]
        known = [(row, share * (1 if key[-1] == "n" else NOT_NOUN)) for row, share, key in found if row is not None]
        for number, (row, share) in enumerate(known):
            senses[token, number], weights[token, number] = row, share
    own = vectors[kept]
    scale = np.abs(own).max(axis=1).clip(1e-9) / 127
    small = np.rint(own / scale[:, None]).astype(np.int8)
    lengths = _lengths(senses, weights, small * scale[:, None])
    weights /= np.sqrt(lengths.clip(1e-6))[
        :, None
    ]  # what looks like nothing in particular counts less, but not nothing
    nothing = np.zeros(vectors.shape[1], dtype=np.float32)
    nothing[-1] = NOTHING * np.median(np.sqrt(lengths[lengths > 0]))
    tensors = {"senses": senses, "weights": weights, "meanings": small, "scale": scale, "nothing": nothing}
    return TextTower(**{name: torch.from_numpy(values) for name, values in tensors.items()})


def _lengths(senses: NDArray[np.int16], weights: Matrix, vectors: Matrix) -> Matrix:
    """(tokens,) the length of each token's vector."""
    parts = np.array_split(np.arange(len(senses)), 64)
    sums = [(vectors[senses[part]] * weights[part][..., None]).sum(axis=1) for part in parts]
    return np.concatenate([np.linalg.norm(rows, axis=1) for rows in sums])


def _places(wordnet: WordNet, rows: dict[int, int]) -> list[int | None]:
    """For each synset its row in the table, or that of what it is a kind of; None if there is none."""
    places: list[int | None] = []
    for start in range(len(wordnet.synsets)):
        row: int | None = start
        for _ in range(16):
            if row is None or row in rows:
                break
            kinds = (wordnet.index[key] for symbol, key in wordnet.synsets[row].relations if symbol[0] in "@&\\")
            row = next(kinds, None)
        places.append(rows.get(row) if row is not None else None)
    return places
