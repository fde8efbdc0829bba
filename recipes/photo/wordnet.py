"""Princeton WordNet 3.0, as Debian's `wordnet-base` packs it: synsets, their relations, glosses and sense counts."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

POS = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
_NUMBERS = {"1": "n", "2": "v", "3": "a", "4": "r", "5": "a"}
_ENDINGS = {
    "n": (
        ("s", ""),
        ("ses", "s"),
        ("xes", "x"),
        ("zes", "z"),
        ("ches", "ch"),
        ("shes", "sh"),
        ("men", "man"),
        ("ies", "y"),
    ),
    "v": (("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")),
    "a": (("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
    "r": (),
}
"""the rules of WordNet's own `morphy`"""


@dataclass(frozen=True, slots=True)
class Synset:
    """One meaning.

    Attributes:
        key: offset and part of speech, `02084071-n`, as the Open Multilingual Wordnet writes it.
        words: its English words, lower case, spaces between their parts.
        relations: pairs of a pointer symbol (`@` hypernym, `~` hyponym, ...) and the key that it points to.
        gloss: its definition with examples.
    """

    key: str
    words: tuple[str, ...]
    relations: tuple[tuple[str, str], ...]
    gloss: str


class WordNet:
    """All synsets, and which of them an English word can mean."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.synsets: list[Synset] = []
        self._keys: dict[tuple[str, str, str, str], str] = {}
        """(word, part of speech, lexicographer's file, id in it) to a synset's key"""
        for pos, name in POS.items():
            for line in (folder / f"data.{name}").read_text(encoding="latin-1").splitlines():
                if not line.startswith("  "):
                    self.synsets.append(self._parse(line, pos))
        self.index: Mapping[str, int] = {synset.key: row for row, synset in enumerate(self.synsets)}

    def _parse(self, line: str, pos: str) -> Synset:
        data, _, gloss = line.partition(" | ")
        parts = data.split(" ")
        key, count = f"{parts[0]}-{pos}", int(parts[3], 16)
        words = []
        for number in range(count):
            written, place = parts[4 + 2 * number : 6 + 2 * number]
            word = (
                re.sub(r"\(\w+\)$", "", written).replace("_", " ").lower()
            )  # (a), (p), (ip): where an adjective stands
            words.append(word)
            self._keys[word, pos, parts[1], f"{int(place, 16):02d}"] = key
        start = 4 + 2 * count
        fields = parts[start + 1 : start + 1 + 4 * int(parts[start])]
        pointers = zip(fields[::4], fields[1::4], fields[2::4], strict=True)
        relations = tuple((symbol, f"{offset}-{target.replace('s', 'a')}") for symbol, offset, target in pointers)
        return Synset(key, tuple(words), relations, gloss.strip())

    @cached_property
    def counts(self) -> dict[tuple[str, str], int]:
        """How often a word was used in a meaning, by (word, key), in texts whose words were tagged by people."""
        found: dict[tuple[str, str], int] = {}
        for line in (self._folder / "cntlist.rev").read_text(encoding="latin-1").splitlines():
            sense, _, count = line.split(" ")
            word, _, place = sense.partition("%")
            kind, file, number = place.split(":")[:3]
            word = word.replace("_", " ")
            key = self._keys.get((word, _NUMBERS[kind], file, number))
            if key is not None:
                found[word, key] = int(count)
        return found

    @cached_property
    def _uses(self) -> dict[tuple[str, str], dict[str, float]]:
        """How often a word of a part of speech is used in each meaning; by order where none is counted."""
        found: dict[tuple[str, str], dict[str, float]] = {}
        for pos, name in POS.items():
            for line in (self._folder / f"index.{name}").read_text(encoding="latin-1").splitlines():
                if not line.startswith("  "):
                    parts = line.split()
                    word, keys = parts[0].replace("_", " "), [f"{part}-{pos}" for part in parts[-int(parts[2]) :]]
                    found[word, pos] = {
                        key: self.counts.get((word, key), 0) + 1 / (1 + rank) for rank, key in enumerate(keys)
                    }
        return found

    @cached_property
    def senses(self) -> dict[str, list[tuple[str, float]]]:
        """The meanings of each English word, with weights that sum to 1: by use, and by order where none is counted."""
        weights: dict[str, list[tuple[str, float]]] = defaultdict(list)
        for (word, _), uses in self._uses.items():
            weights[word] += uses.items()
        return {word: _shares(found) for word, found in weights.items()}

    def uses(self, form: str, parts_of_speech: str = "nvar") -> Counter[str]:
        """How often an English word or an inflected form is used in each meaning: as itself and as a form of others."""
        found: Counter[str] = Counter()
        for pos in parts_of_speech:
            for lemma in dict.fromkeys([form, *self._lemmas(form, pos)]):
                found.update(self._uses.get((lemma, pos), {}))
        return found

    def _lemmas(self, form: str, pos: str) -> list[str]:
        """What this may be a form of, whether it is a word or not."""
        if form in self._exceptions[pos]:
            return self._exceptions[pos][form]
        found = [
            form.removesuffix(old) + new
            for old, new in _ENDINGS[pos]
            if form.endswith(old) and len(form) > len(old) + 1
        ]
        if pos == "v":
            stems = (form.removesuffix(ending) for ending in ("ing", "ed") if form.endswith(ending))
            found += [stem[:-1] for stem in stems if len(stem) > 3 and stem[-1] == stem[-2]]  # running
        return found

    def used(self) -> NDArray[np.float32]:
        """(synsets,) how often each is meant in English; 1 where it was never counted."""
        used = np.ones(len(self.synsets), dtype=np.float32)
        for (_, key), count in self.counts.items():
            used[self.index[key]] += count
        return used

    @cached_property
    def _exceptions(self) -> dict[str, dict[str, list[str]]]:
        found: dict[str, dict[str, list[str]]] = {pos: {} for pos in POS}
        for pos, name in POS.items():
            for line in (self._folder / f"{name}.exc").read_text(encoding="latin-1").splitlines():
                form, *lemmas = line.replace("_", " ").split(" ")
                found[pos][form] = lemmas
        return found

    def irregular_forms(self) -> Iterator[tuple[str, str]]:
        """Pairs of an irregular form and its lemma: `mice`, `mouse`."""
        for forms in self._exceptions.values():
            yield from ((form, lemma) for form, lemmas in forms.items() for lemma in lemmas)

    def lemmas(self, form: str) -> list[str]:
        """The words of WordNet that this may be a form of, itself first."""
        found = [form] if form in self.senses else []
        for pos in POS:
            found += [lemma for lemma in self._lemmas(form, pos) if lemma in self.senses and lemma not in found]
        return found


def _shares(weights: list[tuple[str, float]]) -> list[tuple[str, float]]:
    total = sum(weight for _, weight in weights)
    return [(key, weight / total) for key, weight in weights]
