"""Training batches: drawings and captions, with their targets over all emoji."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from recipes.emoji.augment import compose
from recipes.emoji.captions import Captions, Meaning
from recipes.emoji.glyphs import Draw, draw_all, trained_sets
from recipes.emoji.model import IMAGE_SIZE
from recipes.emoji.tokenizer import CONTEXT, END_ID, PAD_ID, tokenizer_file
from recipes.emoji.words import LANGUAGES, Emoji, read_emoji
from tokenizers import Tokenizer
from torch import Tensor

ART_SIZE = 64
NOTO_SHARE = 0.5
"""probability of Noto's drawing if another set has the emoji too"""


@dataclass(frozen=True, slots=True)
class Captioned:
    """Captions with their targets over all emoji.

    Attributes:
        texts: the token ids of m texts, unpadded.
        meant: (m, emoji) targets of the captions; rows sum to 1.
        unseen: (m, emoji) True for held-out pairs.
    """

    texts: list[list[int]]
    meant: Tensor
    unseen: Tensor

    def to(self, device: torch.device) -> "Captioned":
        """The same on a device."""
        return Captioned(self.texts, self.meant.to(device), self.unseen.to(device))


@dataclass(frozen=True, slots=True)
class Batch:
    """Images and captions.

    Attributes:
        pixels: (n, 3, size, size).
        shown: (n, emoji) targets of the images; rows sum to 1.
        said: the captions, of these and other emoji.
    """

    pixels: Tensor
    shown: Tensor
    said: Captioned

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        return Batch(self.pixels.to(device), self.shown.to(device), self.said.to(device))


@dataclass(frozen=True, slots=True)
class Art:
    """All drawings of the training sets.

    Attributes:
        pictures: (n, 4, s, s) uint8, premultiplied RGBA.
        of: for each emoji, the rows of its drawings, Noto's first.
    """

    pictures: Tensor
    of: list[list[int]]

    def pick(self, positions: Sequence[int], rng: Generator) -> Tensor:
        """Pick a drawing of each emoji: (n, 4, s, s) float, premultiplied, 0..1. An emoji's first drawing is Noto's."""
        rows = []
        for position in positions:
            own = self.of[position]
            rows.append(own[0] if rng.random() < NOTO_SHARE else own[rng.integers(len(own))])
        return self.pictures[rows].float() / 255


def drawn(emoji: Sequence[Emoji], work: Path) -> Art:
    """Draw all emoji from all sets, or load the drawings cached in `work`."""
    pictures: list[np.ndarray] = []
    of: list[list[int]] = [[] for _ in emoji]
    for name, draw in trained_sets(work).items():
        found, owners = _cached(work / f"{name}-{ART_SIZE}.npz", draw, emoji)
        for row, owner in enumerate(owners, start=sum(map(len, pictures))):
            of[owner].append(row)
        pictures.append(found)
    return Art(torch.from_numpy(np.concatenate(pictures)).permute(0, 3, 1, 2).contiguous(), of)


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


@dataclass(frozen=True, slots=True)
class Material:
    """The drawings, captions and tokens from which batches are made."""

    captions: Captions
    tokenizer: Tokenizer
    art: Art


def material(work: Path) -> Material:
    """Load drawings and words; downloads and drawings are cached in `work`."""
    captions = Captions(read_emoji())
    tokenizer = Tokenizer.from_file(str(tokenizer_file(work, captions.texts)))
    return Material(captions, tokenizer, drawn(captions.emoji, work))


class Drawn(ABC):
    """A stream of random batches; every emoji is used once before any is used again."""

    def __init__(self, known: Material, seed: tuple[int, int], taken: int) -> None:
        """Start a stream; `seed` is that of the run and the process, `taken` the number of emoji per batch."""
        self.known, self.captions, self.rng = known, known.captions, np.random.default_rng(seed)
        self.order: list[int] = []
        self.skipped: dict[str, str] = {}
        self._batches = max(1, len(self.captions.emoji) // taken)

    def __len__(self) -> int:
        """The number of batches in which every emoji occurs about once."""
        return self._batches

    def __iter__(self) -> Iterator[Any]:
        """An epoch."""
        return (self.next() for _ in range(len(self)))

    @abstractmethod
    def next(self) -> Any:  # noqa: ANN401
        """The batch that follows."""

    def state(self) -> dict[str, Any]:
        """The position of the stream."""
        return {"rng": self.rng.bit_generator.state, "order": list(self.order)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a position."""
        self.rng.bit_generator.state, self.order = state["rng"], list(state["order"])

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

    def _understood(self, said: list[tuple[str, Meaning]]) -> Captioned:
        ids = [cut(e.ids) for e in self.known.tokenizer.encode_batch([text for text, _ in said])]
        return Captioned(ids, *_dense([meaning for _, meaning in said], len(self.captions.emoji)))


class Batches(Drawn):
    """Batches of images, and of captions of the same and other emoji."""

    def __init__(self, known: Material, seed: tuple[int, int], *, pictures: int, texts: int, scenes: float) -> None:
        """Start a stream with `pictures` images per batch, a share `scenes` with 2 or 3 emoji, and `texts` captions."""
        super().__init__(known, seed, pictures)
        self.pictures, self.texts, self.scenes = pictures, texts, scenes

    def next(self) -> Batch:
        """The batch that follows."""
        count, pictures = len(self.captions.emoji), self.pictures
        shown = [[position] for position in self._take(pictures)]
        for row in range(int(pictures * self.scenes)):
            shown[row] += [int(p) for p in self.rng.choice(count, self.rng.integers(1, 3)) if p not in shown[row]]
        said = [
            self._say(shown[row % pictures] if row < 2 * pictures else [int(self.rng.integers(count))])
            for row in range(self.texts)
        ]
        dense, _ = _dense([Meaning(tuple(s), (1 / len(s),) * len(s), ()) for s in shown], count)
        return Batch(draw(self.known.art, shown, self.rng), dense, self._understood(said))


class CaptionBatches(Drawn):
    """Batches of captions without images."""

    def __init__(self, known: Material, seed: tuple[int, int], *, texts: int, scenes: float) -> None:
        """Start a stream with `texts` captions per batch, a share `scenes` of which name two emoji."""
        super().__init__(known, seed, texts)
        self.texts, self.scenes = texts, scenes

    def next(self) -> Captioned:
        """The batch that follows."""
        shown = [[position] for position in self._take(self.texts)]
        for row in range(int(self.texts * self.scenes)):
            shown[row] += [p for p in self._take(1) if p not in shown[row]]
        return self._understood([self._say(row) for row in shown])


def draw(art: Art, shown: Sequence[Sequence[int]], rng: Generator) -> Tensor:
    """Draw an image of each row's emoji, (n, 3, size, size)."""
    layers, parts = [], []
    for k in range(3):
        rows = [row for row, s in enumerate(shown) if len(s) > k]
        if rows:
            layers.append(rows)
            parts.append(art.pick([shown[row][k] for row in rows], rng))
    return compose(parts, layers, IMAGE_SIZE, rng)


def cut(ids: list[int]) -> list[int]:
    """Truncate to CONTEXT tokens, keeping the end token."""
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
