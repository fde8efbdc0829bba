"""Batches: which drawings and captions stand beside each other, and what each of them means.

Knows drawings, captions and tokens. Does not know the model.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from recipes.emoji.augment import compose
from recipes.emoji.captions import Captions, Meaning
from recipes.emoji.glyphs import Draw, draw_all, trained_sets
from recipes.emoji.tokenizer import CONTEXT, END_ID, PAD_ID
from recipes.emoji.words import LANGUAGES, Emoji
from tokenizers import Tokenizer
from torch import Tensor

ART_SIZE = 64
NOTO_SHARE = 0.5
"""how often a picture is Noto's, where another set has it too."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Pictures and captions with their meaning over all emoji.

    Attributes:
        pixels: (n, 3, size, size).
        shown: (n, emoji) what each picture shows; rows sum to 1.
        texts: m texts' token ids, unpadded.
        meant: (m, emoji) what each caption means; rows sum to 1.
        unseen: (m, emoji) True where a pair is held out.
    """

    pixels: Tensor
    shown: Tensor
    texts: list[list[int]]
    meant: Tensor
    unseen: Tensor


class Art:
    """Every drawing of every trained set, kept as bytes in one array."""

    def __init__(self, emoji: Sequence[Emoji], work: Path) -> None:
        pictures, self.of = [], [[] for _ in emoji]
        for name, draw in trained_sets(work).items():
            drawn, owners = _cached(work / f"{name}-{ART_SIZE}.npz", draw, emoji)
            for row, owner in enumerate(owners, start=sum(map(len, pictures))):
                self.of[owner].append(row)
            pictures.append(drawn)
        self.pictures = torch.from_numpy(np.concatenate(pictures)).permute(0, 3, 1, 2).contiguous()

    def pick(self, positions: Sequence[int], rng: Generator) -> Tensor:
        """One drawing of each emoji: (n, 4, s, s) float, premultiplied, 0..1. The first of an emoji is Noto's."""
        rows = []
        for position in positions:
            own = self.of[position]
            rows.append(own[0] if rng.random() < NOTO_SHARE else own[rng.integers(len(own))])
        return self.pictures[rows].float() / 255


def _cached(path: Path, draw: Draw, emoji: Sequence[Emoji]) -> tuple[np.ndarray, np.ndarray]:
    stamp = hashlib.sha256("\n".join(e.code for e in emoji).encode()).hexdigest()
    if path.exists():
        known = np.load(path)
        if str(known["stamp"]) == stamp:
            return known["pictures"], known["owners"]
    pictures, owners = draw_all(draw, emoji, ART_SIZE)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, pictures=pictures, owners=owners, stamp=stamp)
    return pictures, owners


class Batches:
    """An endless stream of batches; every emoji is shown once before any is shown again."""

    def __init__(self, art: Art, captions: Captions, tokenizer: Tokenizer, size: int, rng: Generator) -> None:
        self.art, self.captions, self.tokenizer, self.size, self.rng = art, captions, tokenizer, size, rng
        self.order: list[int] = []

    def next(self, pictures: int, texts: int, scenes: float) -> Batch:
        """A batch of `pictures`, a share `scenes` of them with two or three emoji, and `texts` captions."""
        count = len(self.captions.emoji)
        shown = [[position] for position in self._take(pictures)]
        for row in range(int(pictures * scenes)):
            shown[row] += [int(p) for p in self.rng.choice(count, self.rng.integers(1, 3)) if p not in shown[row]]
        said = [
            self._say(shown[row % pictures] if row < 2 * pictures else [int(self.rng.integers(count))])
            for row in range(texts)
        ]
        ids, meant, unseen = self._understood(said)
        shown_dense, _ = _dense([Meaning(tuple(s), (1 / len(s),) * len(s), ()) for s in shown], count)
        return Batch(self.draw(shown), shown_dense, ids, meant, unseen)

    def captions_alone(self, texts: int, scenes: float) -> tuple[list[list[int]], Tensor, Tensor]:
        """Captions without pictures, as a batch has them: ids, what they mean, what is left out."""
        shown = [[position] for position in self._take(texts)]
        for row in range(int(texts * scenes)):
            shown[row] += [p for p in self._take(1) if p not in shown[row]]
        return self._understood([self._say(row) for row in shown])

    def _understood(self, said: list[tuple[str, Meaning]]) -> tuple[list[list[int]], Tensor, Tensor]:
        ids = [cut(e.ids) for e in self.tokenizer.encode_batch([text for text, _ in said])]
        meant, unseen = _dense([meaning for _, meaning in said], len(self.captions.emoji))
        return ids, meant, unseen

    def _take(self, number: int) -> list[int]:
        while len(self.order) < number:
            self.order += self.rng.permutation(len(self.captions.emoji)).tolist()
        taken, self.order = self.order[:number], self.order[number:]
        return taken

    def _say(self, shown: Sequence[int]) -> tuple[str, Meaning]:
        language = int(self.rng.integers(len(LANGUAGES)))
        if len(shown) > 1:
            return self.captions.scene(shown, language, self.rng)
        return self.captions.single(shown[0], language, self.rng)

    def draw(self, shown: Sequence[Sequence[int]]) -> Tensor:
        """A picture of each row's emoji, (n, 3, size, size)."""
        layers, art = [], []
        for k in range(3):
            rows = [row for row, s in enumerate(shown) if len(s) > k]
            if rows:
                layers.append(rows)
                art.append(self.art.pick([shown[row][k] for row in rows], self.rng))
        return compose(art, layers, self.size, self.rng)


def cut(ids: list[int]) -> list[int]:
    """At most CONTEXT tokens, the end token kept."""
    return ids if len(ids) <= CONTEXT else [*ids[: CONTEXT - 1], END_ID]


def pad(texts: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
    """Token ids and mask, both (n, longest) int64."""
    longest = max(map(len, texts))
    ids = np.full((len(texts), longest), PAD_ID)
    mask = np.zeros((len(texts), longest), np.int64)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = text
        mask[row, : len(text)] = 1
    return torch.from_numpy(ids), torch.from_numpy(mask)


def _dense(meanings: Sequence[Meaning], count: int) -> tuple[Tensor, Tensor]:
    meant, unseen = np.zeros((len(meanings), count), np.float32), np.zeros((len(meanings), count), bool)
    for row, meaning in enumerate(meanings):
        meant[row, list(meaning.positions)] = meaning.weights
        unseen[row, list(meaning.unseen)] = True
    return torch.from_numpy(meant), torch.from_numpy(unseen)
